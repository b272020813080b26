import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Diagnostic, InvalidDefinition } from '../../src/definition/diagnostics.ts'
import type { KnownItem } from '../../src/definition/hardening.ts'
import { type LoadOptions, loadProject, type Project } from '../../src/definition/load.ts'

export const RELEASES = {
  vm: ['debian/12', 'debian/13', 'ubuntu/24.04', 'ubuntu/24.04-minimal'],
  lxc: ['debian/12', 'debian/13', 'ubuntu/24.04'],
}

const nothing = { forbids: [], writes: [] }
const HARDENING_ITEMS: readonly KnownItem[] = [
  { id: 'kernel-core-dumps', profile: 'baseline', on: () => nothing },
  { id: 'sshd-root', profile: 'baseline', on: () => nothing },
  { id: 'services-insecure', profile: 'baseline', on: () => ({ ...nothing, forbids: ['telnet', 'ftp'] }) },
  { id: 'services-web', profile: 'cis-l1', on: () => ({ ...nothing, forbids: ['nginx'] }) },
  {
    id: 'firewall-rules',
    profile: 'baseline',
    on: ({ containerHost }) => (containerHost ? undefined : { ...nothing, writes: ['/etc/nftables.conf'] }),
  },
]

/** The least that loads. */
export const CONFIG = 'namespace: home\ntargets:\n  lab: { kind: lab }\n'

/** A project of the given files in a folder of its own, which goes when the scope ends. */
export async function projectOnDisk(files: Record<string, string | Uint8Array>) {
  const root = await mkdtemp(join(tmpdir(), 'imagebuild-definition-'))
  for (const [name, text] of Object.entries({ 'imagebuild.yaml': CONFIG, ...files })) {
    await mkdir(dirname(join(root, name)), { recursive: true })
    await writeFile(join(root, name), text)
  }
  const options = (more?: Partial<LoadOptions>): LoadOptions => ({
    releases: RELEASES,
    hardeningItems: HARDENING_ITEMS,
    endOfLife: () => undefined,
    ...more,
  })
  return {
    root,
    load: (more?: Partial<LoadOptions>): Promise<Project> =>
      loadProject(join(root, 'imagebuild.yaml'), options(more)),
    /** `file:line:column message` and hint of every mistake */
    async mistakes(more?: Partial<LoadOptions>): Promise<string[]> {
      try {
        await loadProject(join(root, 'imagebuild.yaml'), options(more))
        return []
      } catch (error) {
        if (!(error instanceof InvalidDefinition)) throw error
        return error.diagnostics.map((found) => inOneLine(found, root))
      }
    },
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  }
}

export function inOneLine({ file, line, column, message, hint }: Diagnostic, root: string): string {
  const text = `${file}:${line}:${column} ${message}${hint === undefined ? '' : ` (${hint})`}`
  return text.replaceAll(`${root}/`, '')
}

/** The mistakes of one image.yaml, in images/a. */
export async function mistakesOf(
  image: string,
  files: Record<string, string | Uint8Array> = {},
): Promise<string[]> {
  await using project = await projectOnDisk({ 'images/a/image.yaml': image, ...files })
  return (await project.mistakes()).map((text) => text.replace('images/a/image.yaml:', ''))
}

/** The mistakes of one imagebuild.yaml. */
export async function mistakesOfConfig(
  config: string,
  files: Record<string, string | Uint8Array> = {},
): Promise<string[]> {
  await using project = await projectOnDisk({ ...files, 'imagebuild.yaml': config })
  return (await project.mistakes()).map((text) => text.replace('imagebuild.yaml:', ''))
}
