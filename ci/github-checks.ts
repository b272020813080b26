import type { Annotation, Status } from './forge.ts'
import type { Repository } from './github-client.ts'
import { cutBytes, cutText } from './markdown.ts'

/** GitHub's limits, from its API description: annotations of one call, characters of texts, and bytes ("64 KB") of messages. */
const ANNOTATIONS_OF_ONE_CALL = 50
const SUMMARY_LIMIT = 65_535
const MESSAGE_BYTES = 64 * 1024
/** Of titles that description names no limit but for an annotation's; a longer one is no line. */
const TITLE_LIMIT = 255
const DESCRIPTION_LIMIT = 140

/** One check run; GitHub shows the newest one of a name. Further annotations are appended to it. */
export async function reportCheckRun({ client, at }: Repository, status: Status): Promise<void> {
  const { commit: head_sha, name, state: conclusion, url, annotations } = status
  const title = cutText(status.title, TITLE_LIMIT)
  const summary = cutText(status.summary, SUMMARY_LIMIT)
  const output = (from: number) => ({
    title,
    summary,
    annotations: annotations.slice(from, from + ANNOTATIONS_OF_ONE_CALL).map(annotation),
  })
  const { data } = await client.rest.checks.create({
    ...at,
    name,
    head_sha,
    status: 'completed',
    conclusion,
    ...(url !== undefined && { details_url: url }),
    output: output(0),
  })
  for (let from = ANNOTATIONS_OF_ONE_CALL; from < annotations.length; from += ANNOTATIONS_OF_ONE_CALL)
    await client.rest.checks.update({ ...at, check_run_id: data.id, output: output(from) })
}

function annotation({ file, line, level, text }: Annotation) {
  return {
    path: file,
    start_line: line,
    end_line: line,
    annotation_level: level,
    message: cutBytes(text, MESSAGE_BYTES),
  }
}

/** What tokens of people may write: one line, and no annotations. */
export async function reportCommitStatus({ client, at }: Repository, status: Status): Promise<void> {
  await client.rest.repos.createCommitStatus({
    ...at,
    sha: status.commit,
    context: status.name,
    state: status.state,
    description: cutText(status.title, DESCRIPTION_LIMIT),
    ...(status.url !== undefined && { target_url: status.url }),
  })
}
