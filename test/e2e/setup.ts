import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { execa } from 'execa'
import { stopLab } from '../../src/lab/lab.ts'
import { labNames } from '../../src/lab/names.ts'
import { LAB_DIR } from './harness.ts'

/** A fresh lab for all end-to-end tests; at the end it must go without a trace. */
export async function setup(): Promise<void> {
  await stopLab(LAB_DIR)
  await rm(LAB_DIR, { recursive: true, force: true })
}

export async function teardown(): Promise<void> {
  await stopLab(LAB_DIR)
  const left = await traces()
  await rm(LAB_DIR, { recursive: true, force: true })
  if (left.length > 0) throw new Error(`the lab left behind:\n${left.join('\n')}`)
}

/** What of a lab, the tests' own when none is named, is still on this machine; another lab may be running beside it. */
export async function traces(dir = LAB_DIR): Promise<string[]> {
  const { bridge, table, runtime, lxcPath } = labNames(dir)
  const [processes, links, rules, mounts] = await Promise.all([
    execa('pgrep', ['-af', `${dir}|${runtime}`], { reject: false }),
    execa('ip', ['-br', 'link', 'show'], { reject: false }),
    execa('nft', ['list', 'tables'], { reject: false }),
    execa('cat', ['/proc/mounts']),
  ])
  return [
    ...processes.stdout.split('\n').filter((line) => /qemu-system|dnsmasq|daemon\.ts|lxc/.test(line)),
    ...links.stdout
      .split('\n')
      .filter((line) => line.startsWith(bridge) || line.startsWith(`ibt${bridge.slice(6, 10)}`)),
    ...rules.stdout.split('\n').filter((line) => line.includes(table)),
    ...mounts.stdout.split('\n').filter((line) => line.includes(dir)),
    ...[runtime, lxcPath].filter((path) => existsSync(path)),
  ]
}
