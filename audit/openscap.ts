import { basename } from 'node:path'
import { type AuditedClone, copyTo, FOLDER, withPackages } from './on-clone.ts'
import { contentFor, type Tools } from './tools.ts'

/** OpenSCAP's own profile, of the same name for each release, nothing tailored. */
export const PROFILE = 'xccdf_org.ssgproject.content_profile_cis_level1_server'

const RULE = 'xccdf_org.ssgproject.content_rule_'

export interface Rule {
  /** without the prefix that all share: `sshd_disable_root_login` */
  id: string
  title: string
  /** in XCCDF's words: pass, fail, error, unknown, notapplicable, notchecked, … */
  result: string
}

/** Runs `oscap` on the clone as root: the scanner of its own release, with content of unstable's. Takes minutes. */
export async function runOpenScap(
  clone: AuditedClone,
  tools: Tools,
  work: string,
  signal: AbortSignal,
): Promise<Rule[]> {
  return await withPackages(clone, ['openscap-scanner'], work, signal, async () => {
    const content = contentFor(tools, clone.release)
    await copyTo(clone, content)
    const file = basename(content)
    // 2 says that some rule is not kept.
    const command = `cd ${FOLDER} && oscap xccdf eval --profile ${PROFILE} ${file} || test $? = 2`
    return parseOpenScap(await clone.run(`sudo sh -c '${command}'`))
  })
}

/** @param text what `oscap xccdf eval` prints: a paragraph of fields for each rule */
export function parseOpenScap(text: string): Rule[] {
  const rules = text.split(/\n\s*\n/).flatMap((paragraph) => {
    // A carriage return stands where a terminal would have the name of the rule that is being looked at.
    const field = (name: string) => new RegExp(`^${name}[\\s]+(.*)$`, 'm').exec(paragraph)?.[1]?.trim()
    const [id, title, result] = [field('Rule'), field('Title'), field('Result')]
    if (id === undefined) return []
    if (title === undefined || result === undefined) throw new Error(`oscap ended while it looked at ${id}`)
    return [{ id: id.replace(RULE, ''), title, result }]
  })
  if (rules.length === 0) throw new Error(`oscap has looked at no rule:\n${text.slice(-2000)}`)
  return rules
}

/** pass / (pass + fail + error): as OpenSCAP counts, what is not applicable or not checked is in neither. */
export function ratio(rules: readonly Rule[]): number {
  const counts = countResults(rules)
  const { pass = 0, fail = 0, error = 0 } = counts
  return pass / (pass + fail + error)
}

export function countResults(rules: readonly Rule[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { result } of rules) counts[result] = (counts[result] ?? 0) + 1
  return counts
}
