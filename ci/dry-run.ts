import type { Change, Forge, ForgeSettings, Status } from './forge.ts'

/**
 * Says what would be sent, and asks nobody: not even whether it is there already.
 * @param print takes lines for people
 */
export function dryRun({ kind, api, owner, repo }: ForgeSettings, print: (line: string) => void): Forge {
  const where = `${owner}/${repo} (${kind}, ${api})`
  return {
    async propose(change) {
      for (const line of change.files.size === 0 ? withdrawn(change, where) : proposed(change, where))
        print(line)
      return { done: 'nothing' }
    },
    async report(status) {
      for (const line of reported(status, where)) print(line)
    },
    read: async () => undefined,
    defaultBranch: async () => 'the default branch',
  }
}

function withdrawn({ branch, pointless }: Change, where: string): string[] {
  return [
    `would close a pull request from ${branch} in ${where}, should one be open, and remove the branch`,
    `  saying: ${pointless}`,
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
