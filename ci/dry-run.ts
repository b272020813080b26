import type { SecretRegistry } from '../src/core/secrets.ts'
import type { Change, Forge, ForgeSettings, Status } from './forge.ts'
import { changeWithoutSecrets, statusWithoutSecrets } from './without-secrets.ts'

/**
 * Says what would be sent, and sends no request: not even to see whether it is there already.
 * @param print takes lines for people
 * @param secrets what is known of them; files that have one are refused here too
 */
export function dryRun(
  { kind, api, owner, repo }: ForgeSettings,
  print: (line: string) => void,
  secrets: SecretRegistry,
): Forge {
  const where = `${owner}/${repo} (${kind}, ${api})`
  return {
    async propose(given) {
      const change = changeWithoutSecrets(given, secrets)
      for (const line of change.files.size === 0 ? withdrawn(change, where) : proposed(change, where))
        print(line)
      return { done: 'nothing' }
    },
    async report(given) {
      const status = statusWithoutSecrets(given, secrets)
      for (const line of reported(status, where)) print(line)
    },
    read: async () => undefined,
    defaultBranch: async () => 'the default branch',
  }
}

function withdrawn({ branch, closingComment }: Change, where: string): string[] {
  return [
    `would close a pull request from ${branch} in ${where}, should one be open, and remove the branch`,
    `  saying: ${closingComment}`,
  ]
}

function proposed({ branch, base, title, body, files }: Change, where: string): string[] {
  return [
    `would write the branch ${branch}, upon ${base}, in ${where}`,
    ...[...files].map(([path, text]) =>
      text === undefined ? `  without ${path}` : `  ${path}, ${Buffer.byteLength(text)} bytes`,
    ),
    `would create or update the pull request "${title}"`,
    ...body
      .trimEnd()
      .split('\n')
      .map((line) => `  ${line}`.trimEnd()),
  ]
}

function reported({ commit, name, state, title, annotations }: Status, where: string): string[] {
  return [
    `would report ${state} as "${name}" at ${commit} in ${where}: ${title}`,
    ...annotations.map(({ file, line, level, text }) => `  ${file}:${line}: ${level}: ${text}`),
  ]
}
