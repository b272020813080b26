import { mapStrings, printable } from './printable.ts'
import type { SecretRegistry } from './secrets.ts'

/**
 * Everything that the engine has to say. The engine never prints: renderers (src/cli/render.ts) decide
 * what a terminal, a log file or a JSON reader sees. `seconds` are wall-clock seconds.
 */
export type Event =
  | { type: 'run.start'; images: string[]; target: string }
  | { type: 'run.end'; schema: 1; results: RunResult[] }
  | { type: 'image.start'; image: string; target: string; digest: string }
  | { type: 'image.end'; image: string; result: RunResult }
  // Of an image that is built on several nodes, these say on which one they are.
  /** a stage of the pipeline: 'source', 'upload', 'create', 'boot', 'cloud-init', 'layer', 'seal', 'convert', … */
  | {
      type: 'step.start'
      image: string
      node?: string
      step: string
      label: string
      /** how long it took when it last ended well on this target; missing where that is not known */
      lastSeconds?: number
    }
  | {
      type: 'step.end'
      image: string
      node?: string
      step: string
      label: string
      seconds: number
      ok: boolean
    }
  /** bytes done of a long transfer; `total` is missing where nobody knows it */
  | {
      type: 'progress'
      image: string
      node?: string
      step: string
      done: number
      total?: number
      unit: 'bytes'
    }
  /** one line that something printed: a command in the guest, a Proxmox task, the guest’s console */
  | {
      type: 'output'
      image: string
      node?: string
      step: string
      stream: 'stdout' | 'stderr' | 'task' | 'console'
      line: string
    }
  /** this process did not run: its machine was suspended, it was stopped, or it got no processor time */
  | { type: 'pause'; seconds: number }
  | { type: 'info'; image?: string; node?: string; message: string }
  | { type: 'warning'; image?: string; node?: string; message: string }
  /** something temporary could not be removed: what, and how to do it by hand */
  | { type: 'leak'; image?: string; node?: string; resource: string; why: string; next: string }

export interface TemplateRow {
  node: string
  vmid: number
  name: string
  version: string
  digest: string
}

export interface RunResult {
  image: string
  status: 'built' | 'unchanged' | 'failed'
  /** true after a rollback: the current template is older than the newest, on purpose */
  held: boolean
  templates: TemplateRow[]
  /** the first of `templates` */
  template?: TemplateRow
  seconds: number
  verifySeconds?: number
  /** how long nothing was at the image's fixed VMID, on the node where it was longest */
  swapSeconds?: number
  error?: Record<string, unknown>
}

export type Emit = (event: Event) => void

export type Sink = (event: Event) => void

/**
 * Carries events to all sinks. What came from outside is made printable here, and secrets are taken out, so that no sink has
 * to think of either. The lines of one output follow upon each other: a secret may begin in one and end in the next.
 */
export function createBus(secrets: SecretRegistry, sinks: readonly Sink[]): Emit {
  const outputs = new Map<string, ReturnType<SecretRegistry['lines']>>()
  const redactLine = ({ image, node = '', step, stream, line }: Output) => {
    const name = [image, node, step, stream].join('\0')
    const lines = outputs.get(name) ?? secrets.lines()
    outputs.set(name, lines)
    return lines.redact(line)
  }
  return (event) => {
    const shown = mapStrings(event, printable)
    const safe =
      shown.type === 'output'
        ? { ...secrets.redactDeep({ ...shown, line: '' }), line: redactLine(shown) }
        : secrets.redactDeep(shown)
    for (const sink of sinks) sink(safe)
  }
}

type Output = Extract<Event, { type: 'output' }>

/** Runs one step with its start and end events. */
export async function step<T>(
  emit: Emit,
  at: { image: string; step: string; label: string },
  work: () => Promise<T>,
): Promise<T> {
  const started = performance.now()
  emit({ type: 'step.start', ...at })
  let ok = false
  try {
    const result = await work()
    ok = true
    return result
  } finally {
    emit({ type: 'step.end', ...at, seconds: (performance.now() - started) / 1000, ok })
  }
}
