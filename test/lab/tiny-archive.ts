import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Ends on SIGPWR, which is how LXC asks, and when the file /stop appears. */
const INIT = `#!/bin/sh
echo tiny begins
trap 'echo tiny ends; exit 0' PWR
while [ ! -e /stop ]; do sleep 0.05; done
echo tiny stops
`

/** The smallest system that runs: this machine's shell and a few programs, no network needed. Boots in no time. */
export function tinyTree(folder: string): string {
  for (const name of ['proc', 'sys', 'dev', 'tmp', 'root', 'run', 'sbin', 'etc/ssh', 'bin'])
    mkdirSync(join(folder, name), { recursive: true })
  const programs = { '/bin/dash': '/bin/sh', '/bin/sleep': '/bin/sleep', '/bin/cat': '/bin/cat' }
  for (const [from, to] of Object.entries(programs)) {
    copyFileSync(from, join(folder, to))
    for (const [library] of execFileSync('ldd', [from]).toString().matchAll(/\/\S+/g)) {
      mkdirSync(join(folder, dirname(library)), { recursive: true })
      copyFileSync(library, join(folder, library))
    }
  }
  writeFileSync(join(folder, 'sbin/init'), INIT)
  chmodSync(join(folder, 'sbin/init'), 0o755)
  writeFileSync(join(folder, 'etc/os-release'), 'PRETTY_NAME="Tiny"\nID=debian\n')
  writeFileSync(join(folder, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
  writeFileSync(join(folder, 'etc/shadow'), 'root:!:1:0:99999:7:::\nother:!:1:0:99999:7:::\n', {
    mode: 0o640,
  })
  writeFileSync(join(folder, 'etc/machine-id'), '0123456789abcdef0123456789abcdef\n')
  return folder
}

export function archive(tree: string, file: string): string {
  execFileSync('tar', ['-C', tree, '--numeric-owner', '--owner=0', '--group=0', '-caf', file, '.'])
  return file
}
