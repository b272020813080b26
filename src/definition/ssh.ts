import { access, readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Diagnostic } from './diagnostics.ts'
import { readNamedFile } from './named-file.ts'
import type { SshSpec } from './spec.ts'
import type { SshFile, TargetSshFile } from './ssh-schema.ts'
import type { Path, YamlFile } from './yaml-file.ts'

interface Context {
  yaml: YamlFile
  report: (found: Diagnostic) => void
}

/** `ssh` of a definition, with the keys in the files that it names. */
export async function loadSsh(written: SshFile, folder: string, context: Context): Promise<SshSpec> {
  const { yaml, report } = context
  const { line, column } = yaml.keyAt(['ssh'])
  const readInFolder = async (name: string) => {
    const read = readNamedFile(folder, name)
    return 'mistake' in read ? read : { text: Buffer.from(read.bytes).toString('utf8') }
  }
  const spec: SshSpec = { principals: written.principals, where: { file: yaml.file, line, column } }
  if (written.ca !== undefined) spec.ca = await loadKeys(written.ca, ['ssh', 'ca'], readInFolder, context)
  if (written.revokedKeys !== undefined) {
    const read = readNamedFile(folder, written.revokedKeys)
    const span = yaml.at(['ssh', 'revokedKeys'])
    if ('mistake' in read) report(yaml.diagnostic(span, read.mistake, read.hint))
    else spec.revokedKeys = read.bytes
  }
  return spec
}

/** `ssh` of a target, with the keys themselves; its files lie where the user wants them. */
export async function loadTargetSsh(
  { ca, revokedKeys, signer }: TargetSshFile,
  path: Path,
  root: string,
  context: Context,
): Promise<TargetSshFile> {
  const read = async (name: string) => ({ text: await readFile(resolve(root, name), 'utf8') })
  if (revokedKeys !== undefined) {
    await access(resolve(root, revokedKeys)).catch((error: NodeJS.ErrnoException) => {
      const span = context.yaml.at([...path, 'revokedKeys'])
      context.report(context.yaml.diagnostic(span, `\`${revokedKeys}\` cannot be read: ${error.message}`))
    })
  }
  return {
    ca: await loadKeys(ca, [...path, 'ca'], read, context),
    ...(revokedKeys !== undefined && { revokedKeys: resolve(root, revokedKeys) }),
    ...(signer !== undefined && { signer: resolve(root, signer) }),
  }
}

type Read = (name: string) => Promise<{ text: string } | { mistake: string; hint?: string }>

async function loadKeys(
  written: readonly string[],
  path: Path,
  read: Read,
  { yaml, report }: Context,
): Promise<string[]> {
  const keys: string[] = []
  for (const [index, entry] of written.entries()) {
    const complain = (message: string, hint?: string) =>
      report(yaml.diagnostic(yaml.at([...path, index]), message, hint))
    if (isPublicKey(entry)) {
      keys.push(entry.trim())
      continue
    }
    // A type and more: `ssh-ca/user_ca.pub` is a file.
    const found = /^(ssh|ecdsa|sk)-\S+\s/.test(entry)
      ? { mistake: 'this is no public key', hint: 'copy the whole line of the .pub file' }
      : await read(entry).catch((error: NodeJS.ErrnoException) => ({
          mistake:
            error.code === 'ENOENT'
              ? `there is no file \`${entry}\``
              : `\`${entry}\` cannot be read: ${error.message}`,
          hint: 'a public key, or a file of them: `imagebuild ssh-ca init` makes one',
        }))
    if ('mistake' in found) {
      complain(found.mistake, found.hint)
      continue
    }
    if (found.text.includes('PRIVATE KEY')) {
      complain(`\`${entry}\` is a private key`, 'name the public half of it, the file that ends with .pub')
      continue
    }
    const lines = found.text.split('\n').map((line) => line.trim())
    const wanted = lines.filter((line) => line !== '' && !line.startsWith('#'))
    if (wanted.length === 0) complain(`\`${entry}\` holds no public key`)
    for (const line of wanted) {
      if (isPublicKey(line)) keys.push(line)
      else complain(`\`${entry}\` holds a line that is no public key: ${line.slice(0, 40)}`)
    }
  }
  return keys
}

/** `type base64 comment`, where the base64 names the type again (RFC 4253, section 6.6); certificates are no keys. */
function isPublicKey(text: string): boolean {
  const [type = '', encoded = ''] = text.trim().split(/\s+/)
  if (!/^(ssh|ecdsa|sk)-[a-z0-9@.-]+$/.test(type) || type.includes('-cert-')) return false
  if (text.trim().includes('\n')) return false
  const bytes = Buffer.from(encoded, 'base64')
  const length = bytes.length > 4 ? bytes.readUInt32BE(0) : 0
  return length > 0 && bytes.subarray(4, 4 + length).toString('latin1') === type
}
