import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { execa } from 'execa'

/** A reader who follows the documents: with a HOME of their own, and this checkout's program in a folder there. */

const ROOT = resolve(import.meta.dirname, '../..')

export interface Reader extends AsyncDisposable {
  home: string
  /** where they type: with `./imagebuild`, its configuration and its fragments, and what they have written there */
  folder: string
  write(files: Readonly<Record<string, string>>): Promise<void>
  /** Types all of this into a shell that stops at the first command that fails. */
  types(lines: string, env?: Readonly<Record<string, string>>): Promise<Typed>
}

export interface Typed {
  exitCode?: number
  stdout: string
  stderr: string
}

/** @param shared variables that are set for all that the reader does */
export async function reader(shared: Readonly<Record<string, string>> = {}): Promise<Reader> {
  const home = await mkdtemp(join(tmpdir(), 'imagebuild-reader-'))
  const folder = join(home, 'imagebuild')
  await mkdir(folder)
  await symlink(join(ROOT, 'imagebuild'), join(folder, 'imagebuild'))
  await cp(join(ROOT, 'imagebuild.yaml'), join(folder, 'imagebuild.yaml'))
  await cp(join(ROOT, 'cloud-init'), join(folder, 'cloud-init'), { recursive: true })
  // What whoever runs the tests has set is not the reader's.
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(IMAGEBUILD|PROXMOX|XDG)_|^SSH_/.test(name),
  )
  const env = {
    ...Object.fromEntries(inherited),
    // `imagebuild …` without a folder is written where that is clear.
    ...{ HOME: home, PATH: `${folder}:${process.env.PATH}`, NO_COLOR: '1', CI: '' },
    ...shared,
  }
  return {
    home,
    folder,
    async write(files) {
      for (const [path, content] of Object.entries(files)) {
        await mkdir(dirname(join(folder, path)), { recursive: true })
        await writeFile(join(folder, path), content)
      }
    },
    types: (lines, more) =>
      execa('sh', ['-euxc', lines], {
        ...{ cwd: folder, reject: false, stdin: 'ignore', extendEnv: false },
        env: { ...env, ...more },
      }),
    [Symbol.asyncDispose]: () => rm(home, { recursive: true, force: true }),
  }
}
