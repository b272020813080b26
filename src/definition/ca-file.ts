import { readFile } from 'node:fs/promises'
import type { Diagnostic } from './diagnostics.ts'
import type { Path, YamlFile } from './yaml-file.ts'

/** Looks at the PEM file of a CA that `path` names, so that what is wrong with it is told at its place. */
export async function checkCa(
  file: string,
  path: Path,
  { yaml, report }: { yaml: YamlFile; report: (found: Diagnostic) => void },
): Promise<void> {
  const complain = (message: string) => report(yaml.diagnostic(yaml.at(path), message))
  const pem = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => error)
  if (typeof pem !== 'string')
    complain(`\`ca\` cannot be read: ${pem.code === 'ENOENT' ? `there is no ${file}` : pem.message}`)
  else if (!pem.includes('-----BEGIN CERTIFICATE-----')) complain(`${file} holds no certificate in PEM form`)
}
