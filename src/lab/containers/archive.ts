import { open } from 'node:fs/promises'
import type { Log } from '../world.ts'
import { asInside } from './id-map.ts'
import type { MountedRoot } from './mounted-root.ts'

/** Extended attributes that Proxmox keeps: those of users, and what programs may do without being root. */
const KEPT = [
  '--numeric-owner',
  '--acls',
  '--xattrs',
  '--xattrs-include=user.*',
  '--xattrs-include=security.capability',
]

/** What vzdump leaves out: the file system's own, and what is temporary by its place. */
const NOT_DUMPED = ['./lost+found', './tmp/?*', './var/tmp/?*', './var/run/?*.pid']

/**
 * Unpacks an archive into a root, with the rights of the container's own root: for an unprivileged container
 * nothing in it can have an effect on the node. The daemon opens the file, since those rights would not do.
 */
export async function unpack(
  root: MountedRoot,
  archive: string,
  unprivileged: boolean,
  log: Log,
): Promise<void> {
  // LXC makes /dev itself, and an unprivileged root could make no device. A backup's configuration is not the tree's.
  const without = ['--anchored', '--exclude=./dev/*', '--exclude=./etc/vzdump/pct.conf']
  const command = [
    '/bin/tar',
    '--extract',
    '--preserve-permissions',
    '--totals',
    ...KEPT,
    '--skip-old-files',
    ...without,
  ]
  await using file = await open(archive)
  const code = await root.run(asInside(unprivileged, [...command, ...decompressor(archive), '--file=-']), {
    stdin: file.fd,
    onLine: log,
  })
  demand(code, command)
}

/** Packs a root into a new file, tar.zst, readable by root alone. */
export async function pack(
  root: MountedRoot,
  target: string,
  unprivileged: boolean,
  log: Log,
): Promise<void> {
  const command = ['/bin/tar', '--create', '--totals', '--one-file-system', '--sparse', ...KEPT]
  const what = ['--warning=no-file-ignored', '--anchored', ...NOT_DUMPED.map((path) => `--exclude=${path}`)]
  await using file = await open(target, 'w', 0o600)
  const code = await root.run(
    asInside(unprivileged, [
      ...command,
      ...what,
      '--use-compress-program=/usr/bin/zstd -T0',
      '--file=-',
      './',
    ]),
    { stdout: file.fd, onLine: log },
  )
  demand(code, command)
}

function decompressor(archive: string): string[] {
  const suffix = /\.(zst|xz|gz|lzo)$/.exec(archive)?.[1]
  if (suffix === undefined) return []
  const program = { zst: 'zstd', xz: 'xz', gz: 'gzip', lzo: 'lzop' }[suffix]
  return [`--use-compress-program=/usr/bin/${program}`]
}

function demand(code: number | undefined, command: readonly string[]): void {
  if (code === 0) return
  const why = code === undefined ? 'received interrupt' : `exit code ${code}`
  throw new Error(`command '${command.join(' ')}' failed: ${why}`)
}
