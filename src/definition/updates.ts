import type { Diagnostic } from './diagnostics.ts'
import { readNamedFile } from './named-file.ts'
import { readPublicKeys } from './openpgp-key.ts'
import type { Repository } from './spec.ts'
import type { RepositoryFile } from './updates-schema.ts'
import type { Path, YamlFile } from './yaml-file.ts'

interface Context {
  yaml: YamlFile
  folder: string
  report: (found: Diagnostic) => void
}

/** `updates.repositories` of a definition, with the keys themselves. A wrong one is left out. */
export function loadRepositories(
  written: readonly (RepositoryFile | undefined)[],
  context: Context,
): Repository[] {
  const { yaml, report } = context
  const loaded: Repository[] = []
  for (const [index, one] of written.entries()) {
    const path = ['updates', 'repositories', index]
    const repository = one && loadRepository(one, path, context)
    if (repository === undefined) continue
    if (loaded.some((other) => isSame(other, repository))) {
      const message = `the suite \`${repository.suite}\` of ${repository.url} is here twice`
      report(yaml.diagnostic(yaml.at(path), message, 'name all components in one place'))
    } else loaded.push(repository)
  }
  return loaded
}

/** Its own, and those of its parent; where both name the same suite, its own counts. */
export function withParents(own: readonly Repository[], parents: readonly Repository[]): Repository[] {
  return [...own, ...parents.filter((one) => !own.some((other) => isSame(one, other)))]
}

function loadRepository(
  { url, suite, components, key, security }: RepositoryFile,
  path: Path,
  { yaml, folder, report }: Context,
): Repository | undefined {
  const file = readNamedFile(folder, key)
  const read = 'mistake' in file ? file : readPublicKeys(file.bytes)
  if ('mistake' in read) {
    const mistake = 'mistake' in file ? read.mistake : `\`${key}\` ${read.mistake}`
    report(yaml.diagnostic(yaml.at([...path, 'key']), mistake, read.hint))
    return undefined
  }
  const { line, column } = yaml.at(path)
  return {
    ...{ url: url.replace(/\/+$/, ''), suite, components, keyring: read.keyring, isSecurity: security },
    where: { file: yaml.file, line, column },
  }
}

function isSame(a: Repository, b: Repository): boolean {
  return a.url === b.url && a.suite === b.suite
}
