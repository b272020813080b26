import type { Occasion } from '../definition/ci-schema.ts'

/** What a scheduled run has to tell of one image. Texts come from outside: they are cleaned where they are written down. */
export interface ImageReport {
  image: string
  /** held and paused: what is stale waits for a person */
  outcome: 'built' | 'unchanged' | 'failed' | 'paused' | 'held'
  /** current before the run; missing where there was none */
  oldVersion?: string
  /** current after the run; missing where there is none */
  newVersion?: string
  /** of what is current after the run, on each node */
  vmids: readonly { node: string; vmid: number }[]
  /** why it was stale, each for a reader: `security: openssl 3.0.16-1 → 3.0.17-1 (trixie-security)` */
  reasons: readonly string[]
  /** how long the run worked on it */
  seconds: number
  failure?: {
    /** the check that failed, where it was one */
    check?: string
    /** what failed and why, one sentence */
    what: string
  }
}

/** One run as a whole; also of one that ended before it knew its images. */
export interface RunReport {
  namespace: string
  target: string
  ended: Date
  seconds: number
  /** of the process; missing where the run was ended from outside and has none of its own */
  exitStatus?: number
  images: readonly ImageReport[]
  /** what went wrong beside the images: a cluster out of reach, a lockfile that cannot be written */
  problems: readonly string[]
  /** address of the pull request */
  pullRequest?: string
}

export function isSuccess(report: RunReport): boolean {
  return report.exitStatus === 0
}

/** Whether an image is stale after the run, too. */
export function isStale({ outcome, reasons }: ImageReport): boolean {
  return outcome !== 'built' && (outcome === 'failed' || reasons.length > 0)
}

/** Whether it stays stale until a person acts. */
export function waits(image: ImageReport): boolean {
  return image.outcome === 'paused' || (image.outcome === 'held' && image.reasons.length > 0)
}

/** On which occasions there is something to say, what weighs most first. */
export function occasionsOf(report: RunReport): Occasion[] {
  const { images, problems } = report
  const occasions: Record<Occasion, boolean> = {
    failure: !isSuccess(report) || problems.length > 0 || images.some(({ outcome }) => outcome === 'failed'),
    change: images.some(({ outcome }) => outcome === 'built'),
    waiting: images.some(waits),
  }
  return (Object.keys(occasions) as Occasion[]).filter((occasion) => occasions[occasion])
}
