import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, realpath } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { execa } from 'execa'
import { poll, withDeadline } from '../../core/scope.ts'

/**
 * Where a root is mounted, in a mount namespace of its own, in which nobody misses what is below this folder
 * otherwise. It must be a folder that everybody may enter: an unprivileged container's root has no rights outside.
 */
export const MOUNT_POINT = '/mnt'

/** Seconds for the kernel to write everything out and let go of a file. */
const RELEASE_SECONDS = 60

/**
 * Private, so that no mount is ever visible elsewhere on this machine, and none is left behind: a mount namespace
 * goes with its last process, takes the mount with it, and that the loop device. However a process ends (SIGKILL
 * of the daemon, of LXC's monitor), there is nothing to clean up. The same for LXC's hooks or ordinary mounts would
 * need somebody to come after them. `slave`: what others unmount goes away here too.
 */
export function mounting(file: string, options: string, command: readonly string[]): string[] {
  const script = 'mount -n -t ext4 -o "$1" -- "$2" "$3" && shift 3 && exec "$@"'
  return [
    ...['unshare', '--mount', '--propagation', 'slave', '--'],
    ...['/bin/sh', '-c', script, 'mount', `loop,${options}`, file, MOUNT_POINT, ...command],
  ]
}

export interface Command {
  /** file descriptor to read from */
  stdin?: number
  /** file descriptor to write to */
  stdout?: number
  /** each line on stderr */
  onLine?: (line: string) => void
}

/**
 * A stopped container's root, mounted for as long as this is not disposed of. A process holds its namespaces; all
 * commands run in them, and end with it at the latest (it is the first of a process namespace).
 */
export class MountedRoot implements AsyncDisposable {
  readonly #file: string
  readonly #holder: ReturnType<typeof hold>

  private constructor(file: string, holder: ReturnType<typeof hold>) {
    this.#file = file
    this.#holder = holder
  }

  /** @throws with mount's words, or the signal's reason: aborting kills whatever runs in it */
  static async open(
    file: string,
    { readOnly = false, signal }: { readOnly?: boolean; signal?: AbortSignal | undefined } = {},
  ): Promise<MountedRoot> {
    signal?.throwIfAborted()
    const root = new MountedRoot(file, hold(file, readOnly, signal))
    const holder = root.#holder
    holder.stdin.on('error', () => undefined)
    holder.stdin.write('\n')
    const mounted = new Promise<true>((resolve) => holder.stdout.once('data', () => resolve(true)))
    if ((await Promise.race([mounted, holder])) === true) return root
    signal?.throwIfAborted()
    throw new Error((await holder).stderr || 'mount failed')
  }

  /** The tree as this process sees it. Absolute links in it lead out of it! */
  get path(): string {
    return `/proc/${this.#holder.pid}/root${MOUNT_POINT}`
  }

  /** Runs a command in the tree's topmost folder. @returns its exit code, undefined when it was killed */
  async run(
    command: readonly string[],
    { stdin, stdout, onLine }: Command = {},
  ): Promise<number | undefined> {
    const { pid } = this.#holder
    const namespaces = [`--mount=/proc/${pid}/ns/mnt`, `--pid=/proc/${pid}/ns/pid_for_children`]
    // The working folder of a process in another mount namespace is named by a path there, hence the shell.
    const script = `cd ${MOUNT_POINT} && exec "$@"`
    const child = spawn('nsenter', [...namespaces, '--', '/bin/sh', '-c', script, 'sh', ...command], {
      stdio: [stdin ?? 'ignore', stdout ?? 'ignore', 'pipe'],
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    })
    const ended = once(child, 'close') as Promise<[number | null]>
    for await (const line of createInterface({ input: child.stderr as Readable })) onLine?.(line)
    return (await ended)[0] ?? undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#holder.stdin.end()
    await this.#holder
    await released(this.#file)
  }
}

/** `cat` ends when our end of its input closes, so also with this process; the first byte from it says: mounted. */
function hold(file: string, readOnly: boolean, signal: AbortSignal | undefined) {
  // Process ids are others in here, and programs look theirs up in /proc.
  const script = `mount -n -t proc proc /proc && cat; umount ${MOUNT_POINT}`
  const [command = '', ...args] = mounting(file, `noatime,nodev,nosuid,noexec${readOnly ? ',ro' : ''}`, [
    ...['unshare', '--pid', '--fork', '--kill-child=SIGKILL', '--'],
    ...['/bin/sh', '-c', script],
  ])
  return execa(command, args, {
    buffer: { stdout: false, stderr: true },
    reject: false,
    ...(signal && { cancelSignal: signal, killSignal: 'SIGKILL' as const }),
  })
}

/** Waits until no loop device has the file any more: then everything that was written is in it. */
export async function released(file: string): Promise<void> {
  const path = await realpath(file).catch(() => undefined)
  if (path === undefined) return
  using deadline = withDeadline(undefined, RELEASE_SECONDS, `unmounting ${file}`)
  await poll(async () => ((await loopOf(path)) === undefined ? true : undefined), {
    signal: deadline,
    first: 5,
    max: 50,
  })
}

/** The loop device behind which a file lies: /dev/loop0. */
export async function loopOf(path: string): Promise<string | undefined> {
  const backing = await realpath(path)
  for (const device of await readdir('/sys/block')) {
    if (!device.startsWith('loop')) continue
    const file = await readFile(`/sys/block/${device}/loop/backing_file`, 'utf8').catch(() => '')
    if (file.trimEnd() === backing) return `/dev/${device}`
  }
  return undefined
}
