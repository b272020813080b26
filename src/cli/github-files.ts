import { appendFile } from 'node:fs/promises'
import type { CiResult, ImageOutcome } from './ci-result.ts'
import type { Invocation } from './invocation.ts'

/**
 * What a step of GitHub Actions hands on: outputs for other steps, and a page for people. The runners of Forgejo and Gitea name
 * such files, too; elsewhere nothing is written.
 */
export async function writeGithubFiles(
  result: CiResult,
  { secrets }: Pick<Invocation, 'secrets'>,
  env: NodeJS.ProcessEnv = process.env,
): Promise<void> {
  const { GITHUB_OUTPUT: outputs, GITHUB_STEP_SUMMARY: summary } = env
  if (outputs) await appendFile(outputs, result.images.map(outputOf).join(''))
  if (summary) await appendFile(summary, await summaryOf(secrets.redactDeep(result)))
}

/** `template_id_web=9004`: on a target with several nodes, of the first that has one. */
function outputOf({ image, after }: ImageOutcome): string {
  const [vmid] = Object.values(after?.vmids ?? {})
  return vmid === undefined ? '' : `template_id_${image}=${vmid}\n`
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
  return `${lines.join('\n')}\n\n`
}
