import { open } from 'node:fs/promises'
import { execa } from 'execa'
import type { Log } from '../world.ts'
import { rootId } from './id-map.ts'
import { loopOf } from './mounted-root.ts'

/** What Proxmox shows of mkfs's words. */
const SHOWN = /^(?:Creating filesystem|Filesystem UUID|Superblock backups|\t\d)/

/** Makes an ext4 in a root volume, whose topmost folder belongs to the container's root. */
export async function makeFileSystem(file: string, unprivileged: boolean, log: Log): Promise<void> {
  const id = rootId(unprivileged)
  const lines = await run('mkfs.ext4', ['-F', '-E', `root_owner=${id}:${id}`, file], log)
  for (const line of lines.filter((text) => SHOWN.test(text))) log(line)
}

/** Grows the file system of a root that is mounted nowhere to its volume's size. */
export async function growFileSystem(file: string, log: Log): Promise<void> {
  // resize2fs demands it; 1 means that it has corrected something.
  await run('e2fsck', ['-f', '-y', file], log, 1)
  for (const line of await run('resize2fs', [file], log)) log(line)
}

/**
 * The same under a running container; `monitor`: a process that has the root mounted. Linux wants CAP_SYS_RESOURCE
 * for it, which not every root has: then it is said as Proxmox says it, and the next start makes up for it.
 */
export async function growMounted(file: string, monitor: number, log: Log): Promise<void> {
  const loop = await loopOf(file)
  if (loop === undefined) throw new Error(`${file} is not mounted`)
  await run('losetup', ['--set-capacity', loop], log)
  try {
    const lines = await run('nsenter', [`--mount=/proc/${monitor}/ns/mnt`, 'resize2fs', loop], log)
    for (const line of lines) log(line)
  } catch (error) {
    log(`Failed to update the container's filesystem: ${(error as Error).message}`)
  }
}

/** Is there room behind the file system in its volume? For one that is not mounted. */
export async function hasRoomToGrow(file: string): Promise<boolean> {
  await using volume = await open(file)
  // ext4's superblock: count of blocks (its high half later), size of a block, the magic number.
  const { buffer } = await volume.read(Buffer.alloc(1024), 0, 1024, 1024)
  if (buffer.readUInt16LE(0x38) !== 0xef53) return false
  const blocks = buffer.readUInt32LE(0x4) + buffer.readUInt32LE(0x150) * 2 ** 32
  const block = 1024 << buffer.readUInt32LE(0x18)
  return (await volume.stat()).size >= (blocks + 1) * block
}

async function run(command: string, args: string[], log: Log, harmless = 0): Promise<string[]> {
  const result = await execa(command, args, { reject: false, stdin: 'ignore', env: { LC_ALL: 'C.UTF-8' } })
  if (result.exitCode !== undefined && result.exitCode <= harmless)
    return result.stdout.split('\n').map((line) => line.trimEnd())
  for (const line of result.stderr.split('\n')) if (line !== '') log(line)
  throw new Error(`command '${[command, ...args].join(' ')}' failed: exit code ${result.exitCode}`)
}
