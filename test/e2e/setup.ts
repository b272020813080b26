import { rm } from 'node:fs/promises'
import { execa } from 'execa'
import { stopLab } from '../../src/lab/lab.ts'
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

/** Processes, links, rules and mounts that belong to the tests' lab. */
export async function traces(): Promise<string[]> {
  const [processes, links, rules, mounts, namespaces] = await Promise.all([
    execa('pgrep', ['-af', LAB_DIR], { reject: false }),
    execa('ip', ['-br', 'link', 'show'], { reject: false }),
    execa('nft', ['list', 'tables'], { reject: false }),
    execa('cat', ['/proc/mounts']),
    execa('ip', ['netns', 'list'], { reject: false }),
  ])
  return [
    ...processes.stdout.split('\n').filter((line) => /qemu-system|dnsmasq|daemon\.ts/.test(line)),
    ...links.stdout.split('\n').filter((line) => /^(iblab|ibtap)/.test(line)),
    ...rules.stdout.split('\n').filter((line) => line.includes('imagebuild') || line.includes('iblab')),
    ...mounts.stdout.split('\n').filter((line) => line.includes(LAB_DIR)),
    ...namespaces.stdout.split('\n').filter((line) => line.includes('imagebuild')),
  ]
}
