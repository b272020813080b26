import { parseArgs } from 'node:util'
import { interruptSignal } from '../bench/interrupt.ts'
import { cacheFolder } from '../src/cli/folders.ts'
import { installMissing, LAB_HOST } from '../src/cli/prerequisites.ts'
import { auditClone, type Findings } from './audit-clone.ts'
import { bootClone } from './clone.ts'
import { PROFILES, type Profile } from './definition.ts'
import { type Audited, judge } from './limits.ts'
import { isRelease, RELEASES, type Release, SHIPPED } from './release.ts'
import { formatReport, reportAsJson } from './report.ts'
import { auditTools, TOOLS_HOST } from './tools.ts'
import { buildTemplate, connectLab, makeWorkspace } from './workspace.ts'

/**
 * `npm run audit [-- --release 12|13] [--profile none|baseline|cis-l1 …] [--boots N] [--keep] [--json]`: what outsiders'
 * scanners say about clones of the shipped image, with each hardening. Ends with 1 when a limit is missed.
 *
 * Clones boot in turns, one at a time, so that a machine that is busy for a while is busy for all. The last of each
 * profile is examined.
 */
const { values } = parseArgs({
  options: {
    release: { type: 'string', default: SHIPPED },
    profile: { type: 'string', multiple: true },
    boots: { type: 'string', default: '3' },
    keep: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const asked = values.profile ?? [...PROFILES]
const rounds = Number(values.boots)
const { release } = values
const unknown = asked.some((name) => !PROFILES.includes(name as Profile))
if (unknown || !isRelease(release) || !Number.isInteger(rounds) || rounds < 1) {
  console.error(
    `usage: npm run audit [-- --release ${Object.keys(RELEASES).join('|')}] [--profile ${PROFILES.join('|')} …] [--boots N] [--keep] [--json]`,
  )
  process.exit(64)
}

const profiles = PROFILES.filter((name) => asked.includes(name))
process.exitCode = (await audit(release, profiles)) ? 0 : 1

/** @returns whether all limits are kept */
async function audit(release: Release, profiles: readonly Profile[]): Promise<boolean> {
  const signal = interruptSignal()
  const say = (line: string) => console.error(line)
  await installMissing([...LAB_HOST, ...TOOLS_HOST], (event) => {
    if ('message' in event) say(event.message)
  })
  const tools = await auditTools({ cacheDir: cacheFolder(), signal })
  await using workspace = await makeWorkspace({ keep: values.keep, say, signal })
  const templates: { profile: Profile; template: number; boots: number[]; findings?: Findings }[] = []
  for (const profile of profiles) {
    templates.push({ profile, template: await buildTemplate(workspace, { release, profile }), boots: [] })
  }
  const { pve, node } = await connectLab(workspace)
  await using _ = pve
  for (let round = 1; round <= rounds; round++) {
    for (const one of templates) {
      const vmid = Number(await pve.api.cluster.nextid.$get())
      await using clone = await bootClone({ pve, node, template: one.template, vmid, signal })
      one.boots.push(clone.secondsToLogin)
      say(`${one.profile}: SSH after ${clone.secondsToLogin.toFixed(1)} s`)
      if (round < rounds) continue
      const progress = (scanner: string) => say(`${one.profile}: ${scanner}`)
      one.findings = await auditClone({ ...clone, release }, tools, { signal, say: progress })
    }
  }
  const audits = templates as Audited[]
  process.stdout.write((values.json ? reportAsJson : formatReport)(release, audits, tools))
  return judge(release, audits).every(({ kept }) => kept)
}
