import { writeDurably } from '../core/durable-file.ts'
import { NotSent } from './not-sent.ts'
import { type ImageReport, isStale, isSuccess, type RunReport } from './report.ts'

/** The collector runs as another user. */
const MODE = 0o644

/**
 * What node_exporter's textfile collector reads (prometheus.io/docs/instrumenting/exposition_formats). It looks at names
 * that end in .prom only, so it never sees the file half written.
 * @throws NotSent
 */
export async function writeMetrics(path: string, report: RunReport): Promise<void> {
  try {
    await writeDurably(path, renderMetrics(report), MODE)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const next =
      code === 'ENOENT'
        ? 'make its folder, the one that node_exporter has as --collector.textfile.directory'
        : 'let this user write there'
    throw new NotSent({ what: `the metrics file ${path}`, verb: 'written', why: message, next })
  }
}

interface Sample {
  labels: Record<string, string>
  value: number
}

/** Of the last run alone: an image that it was not asked for is not in it. */
export function renderMetrics(report: RunReport): string {
  const { namespace, target, images } = report
  const place = { namespace, target }
  const whole = (value: number): Sample[] => [{ labels: place, value }]
  const each = (of: (image: ImageReport) => number): Sample[] =>
    images.map((image) => ({ labels: { ...place, image: image.image }, value: of(image) }))
  const metrics: [name: string, help: string, samples: Sample[]][] = [
    [
      'last_run_timestamp_seconds',
      'When the last scheduled run ended, in Unix time.',
      whole(Math.floor(report.ended.getTime() / 1000)),
    ],
    [
      'last_run_success',
      'Whether the last scheduled run ended well (1) or not (0).',
      whole(isSuccess(report) ? 1 : 0),
    ],
    ['last_run_duration_seconds', 'How long the last scheduled run took.', whole(report.seconds)],
    [
      'stale_images',
      'Images that were stale after the last scheduled run.',
      whole(images.filter(isStale).length),
    ],
    [
      'image_stale',
      'Whether the image was stale after the last scheduled run (1) or not (0).',
      each((image) => (isStale(image) ? 1 : 0)),
    ],
    [
      'image_duration_seconds',
      'How long the last scheduled run worked on the image.',
      each(({ seconds }) => seconds),
    ],
    [
      'image_info',
      'What is current of the image, by node, and how the last scheduled run ended for it. The value is always 1.',
      images.flatMap((image) =>
        infoOf(image).map((labels) => ({ labels: { ...place, ...labels }, value: 1 })),
      ),
    ],
  ]
  return metrics
    .filter(([, , samples]) => samples.length > 0)
    .map(rendered)
    .join('')
}

/** One for each node that has it. */
function infoOf({ image, outcome, newVersion, vmids }: ImageReport): Record<string, string>[] {
  const labels = { image, outcome, version: newVersion ?? '' }
  if (vmids.length === 0) return [labels]
  return vmids.map(({ node, vmid }) => ({ ...labels, node, vmid: String(vmid) }))
}

function rendered([short, help, samples]: [string, string, Sample[]]): string {
  const name = `imagebuild_ci_${short}`
  const lines = samples.map(({ labels, value }) => {
    const list = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`)
    return `${name}{${list.join(',')}} ${value}`
  })
  return `${[`# HELP ${name} ${help}`, `# TYPE ${name} gauge`, ...lines].join('\n')}\n`
}

/** In a label backslash, quote and line feed are escaped, and nothing else. */
function escaped(text: string): string {
  return text.toWellFormed().replace(/[\\"\n]/g, (sign) => (sign === '\n' ? '\\n' : `\\${sign}`))
}
