import type { CiResult, ImageOutcome } from './ci-result.ts'
import { writeOutputs, writeSummary } from './step-files.ts'

/** What a step of GitHub Actions hands on: outputs for other steps, and a page for people. */
export async function writeGithubFiles(result: CiResult): Promise<void> {
  await writeOutputs(new Map(result.images.flatMap(outputOf)))
  await writeSummary(await summaryOf(result))
}

/** `template_id_<image>`: its VMID, on a target with several nodes that of the first which has one. */
function outputOf({ image, after }: ImageOutcome): [string, string][] {
  const [vmid] = Object.values(after?.vmids ?? {})
  return vmid === undefined ? [] : [[`template_id_${image}`, String(vmid)]]
}

/** Markdown: a row for each image, then what went wrong beside them. */
async function summaryOf({ target, images, problems }: CiResult): Promise<string> {
  const { code, plain } = await import('../../ci/markdown.ts')
  const rows = images.map(({ image, outcome, reasons, before, after, failure }) => {
    const versions = [before, after].map((one) => (one === undefined ? '—' : code(one.version)))
    const vmids = Object.entries(after?.vmids ?? {}).map(([node, vmid]) => `${vmid} on ${code(node)}`)
    const why = [...reasons, ...(failure === undefined ? [] : [`failed: ${failure.what}`])]
    return [code(image), outcome, ...versions, vmids.join(', '), why.map(plain).join('<br>')]
  })
  const lines = [
    ...[`### Images on ${code(target)}`, ''],
    ...(rows.length === 0 ? ['Nothing is stale.'] : []),
    ...(rows.length > 0 ? ['| Image | | Was | Is | Templates | Why |', '|---|---|---|---|---|---|'] : []),
    ...rows.map((cells) => `| ${cells.join(' | ')} |`),
    ...problems.flatMap((problem) => ['', `- Problem: ${plain(problem)}`]),
  ]
  return lines.join('\n')
}
