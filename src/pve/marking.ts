import { asImagebuildError, ImagebuildError } from '../core/errors.ts'
import type { Pve } from './client.ts'
import { PveError } from './errors.ts'
import { type GuestRef, guestApi, guestLabel, readConfig } from './guest-ref.ts'
import { isAnswerLost } from './lost-answer.ts'
import {
  foreignTags,
  fromTags,
  type Marks,
  type Note,
  parseNote,
  renderNote,
  toTags,
  type VerifySummary,
} from './marks.ts'
import type { Template } from './templates.ts'

/** What is to be different; `undefined` takes a mark away. */
export type MarksChange = { [Key in keyof Marks]?: Marks[Key] | undefined }

/** Times that marks are written which somebody else changes at the same moment. */
const TRIES = 5

/**
 * Gives a template other marks (and another note, if given) by compare-and-swap on the config's digest. Where somebody
 * else was faster, or the answer was lost, `change` is asked again about what is there now; with undefined it leaves
 * things as they are.
 * @returns the marks that it has now; undefined where they were left
 * @throws ImagebuildError `not_found` where that VMID is no longer this template
 */
export async function mark(
  pve: Pve,
  template: GuestRef & { marks: Marks },
  change: (now: Marks) => MarksChange | undefined,
  note?: (old: Note) => Note,
): Promise<Marks | undefined> {
  for (let tries = 1; ; tries += 1) {
    const config = await readConfig(pve, template)
    const now = fromTags(template.vmid, config.tags)
    if (now === undefined || !isSame(now, template.marks)) throw noLongerThere(template)
    const changed = change(now)
    if (changed === undefined) return undefined
    const marks = { ...now, ...changed } as Marks
    const old = parseNote(template.vmid, config.description)
    try {
      await guestApi(pve, template).config.$put({
        tags: toTags(marks, foreignTags(config.tags)),
        ...(note && old && { description: replaceNote(config.description ?? '', note(old)) }),
        digest: config.digest,
      })
      return marks
    } catch (error) {
      if (tries === TRIES || !mayRepeat(error)) throw error
    }
  }
}

/** Whether what was written by the config's digest is looked at, and written, once more. */
export function mayRepeat(error: unknown): boolean {
  return isOvertaken(error) || mayBeWritten(error)
}

function isSame(now: Marks, then: Marks): boolean {
  return now.namespace === then.namespace && now.image === then.image && now.version === then.version
}

/** Proxmox's words where the digest is not the config's any more. */
function isOvertaken(error: unknown): boolean {
  return /checksum mismatch|file change by other user|detected modified configuration/i.test(
    asImagebuildError(error).message,
  )
}

/**
 * Whether this was written cannot be known, or it was not sent. By its digest it is written once at most: a second try sees
 * what there is, or comes first, and the lost one is refused.
 */
function mayBeWritten(error: unknown): boolean {
  return isAnswerLost(error) || (error instanceof PveError && error.passing)
}

function noLongerThere(template: GuestRef & { marks: Marks }): ImagebuildError {
  const { image, version } = template.marks
  return new ImagebuildError({
    code: 'not_found',
    what: `${guestLabel(template)} is no longer version ${version} of ${image}`,
    why: 'somebody has removed it, or its tags, at this moment',
    next: `imagebuild history ${image}`,
  })
}

/** A description with another note; what people wrote above it stays. */
export function replaceNote(description: string, note: Note): string {
  const text = description.slice(0, description.indexOf('```imagebuild')).trimEnd()
  return renderNote(note, text === '' ? undefined : text)
}

/** Writes down how verifying a template ended; `artifacts` are the SHA-256 of reports that lie elsewhere. */
export async function recordVerification(
  pve: Pve,
  template: Template,
  { verify, artifacts }: { verify: VerifySummary; artifacts: Record<string, string> },
): Promise<void> {
  const how = verify.inside === 'verified' ? 'inside' : 'outside'
  await mark(
    pve,
    template,
    () => ({ verified: verify.failed === 0 ? how : undefined }),
    (note) => ({
      ...note,
      verify,
      artifacts: { ...note.artifacts, ...artifacts },
    }),
  )
}
