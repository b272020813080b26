import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { execa } from 'execa'

/** The address that the container gives itself; of a range that is nobody's. */
export const ADDRESS = '192.0.2.2'

/** Ends when LXC asks for it, and says on its console that it is there. */
export const INIT = `#!/bin/sh
trap 'exit 0' PWR
ip link set eth0 up
ip addr add ${ADDRESS}/24 dev eth0
echo tiny is up
while :; do sleep 1 & wait $!; done
`

/** Ends by itself, like one that is powered off from within. */
export const BRIEF_INIT = `#!/bin/sh
echo tiny is up
sleep 1
`

const PROGRAMS = { '/bin/dash': '/bin/sh', '/bin/sleep': '/bin/sleep', '/bin/ip': '/bin/ip' }

/** A program with the libraries that it needs. */
async function copyProgram(from: string, root: string, to: string): Promise<void> {
  await copyFile(from, join(root, to))
  const { stdout } = await execa('ldd', [from])
  for (const [library] of stdout.matchAll(/\/\S+/g)) {
    await mkdir(join(root, dirname(library)), { recursive: true })
    await copyFile(library, join(root, library))
  }
}

export interface Tiny {
  /** bytes that nobody needs, so that it takes its time to unpack */
  ballast?: number
  init?: string
  /** makes the init, and what else there is beside the shell */
  prepare?(root: string): Promise<void>
}

/** A container in a few megabytes, as .tar.zst: this machine's shell, and an init of a few lines. */
export async function tinyArchive({ ballast = 0, init = INIT, prepare }: Tiny = {}): Promise<Buffer> {
  const root = await mkdtemp(join(tmpdir(), 'tiny-'))
  const archive = `${root}.tar.zst`
  try {
    for (const folder of ['bin', 'sbin', 'etc', 'dev', 'proc', 'sys', 'tmp', 'var', 'run']) {
      await mkdir(join(root, folder))
    }
    for (const [from, to] of Object.entries(PROGRAMS)) await copyProgram(from, root, to)
    if (prepare) await prepare(root)
    else await writeFile(join(root, 'sbin/init'), init, { mode: 0o755 })
    await writeFile(join(root, 'etc/hostname'), 'tiny\n')
    if (ballast > 0) await writeFile(join(root, 'ballast'), randomBytes(ballast))
    await execa('tar', ['--create', '--zstd', '--owner=0', '--group=0', '--file', archive, '-C', root, '.'])
    return await readFile(archive)
  } finally {
    await rm(root, { recursive: true, force: true })
    await rm(archive, { force: true })
  }
}
