import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bootClone } from '../e2e/clone.ts'
import { BOOTSTRAP, LAB_DIR, makeProject, type Project } from '../e2e/harness.ts'

/**
 * Packages that a bootstrapped system brings along leave the same system as those that a guest has installed: each kind of
 * guest is built both ways, and compared as its clones see it.
 */

/** cloud-init runs it before any package may be there, so all of them are installed in the guest. */
const IN_GUEST = '#cloud-config\nruncmd: [["true"]]\n'

const definition = (name: string, kind: 'vm' | 'lxc', fragments: string) => `name: ${name}
kind: ${kind}
${BOOTSTRAP}
hardware: ${kind === 'vm' ? '{ memory: 2048, disk: 4G }' : '{ memory: 512, rootfs: 4G }'}
cloudInit: [${fragments}]
hardening: baseline
template: { ${kind === 'lxc' ? 'archive: true' : 'tags: [natively]'} }
provision:
  - packages: [htop, jq, nginx-light]
`

/** Facts of a system, by name; run as root. Paths are relative, for a system that does not run. */
const FACTS: Readonly<Record<string, string>> = {
  packages: 'dpkg-query -W | sort',
  manual: 'apt-mark showmanual | sort',
  units: 'systemctl list-unit-files --no-legend --plain --state=enabled,masked,disabled | sort',
  users: 'getent passwd | sort',
  groups: 'getent group | sort',
  changed: 'dpkg -V || true',
  files:
    'find /etc /var/lib/dpkg/info \\( -type f -exec sha256sum {} + -o -type l -printf "%p -> %l\\n" \\) | sort -k 2',
  modes: 'find /etc -printf "%m %u:%g %p\\n" | sort -k 3',
}

/** What differs all the same, and why. */
const ALLOWED: readonly { pattern: RegExp; why: string }[] = [
  { pattern: / \/etc\/(machine-id|hostname|hosts|mailname)$/, why: 'each machine has its own' },
  { pattern: /\/etc\/ssh\/ssh_host_/, why: 'each machine has its own' },
  { pattern: /\/etc\/(netplan|systemd\/network|udev\/rules\.d)\//, why: 'its MAC' },
  { pattern: /\/etc\/ld\.so\.cache$/, why: 'a cache' },
  {
    pattern: /\/etc\/(passwd|group|shadow|gshadow|subuid|subgid)-?$/,
    why: 'dates of accounts; the accounts are compared',
  },
  {
    pattern: /\/etc\/systemd\/system-preset\/60-image\.preset$/,
    why: 'names what was disabled when the system was made',
  },
]

let project: Project
beforeAll(async () => {
  project = await makeProject({ 'cloud-init/in-guest.yaml': IN_GUEST })
  for (const kind of ['vm', 'lxc'] as const)
    await project.write({
      [`images/${kind}-before/image.yaml`]: definition(`${kind}-before`, kind, ''),
      [`images/${kind}-within/image.yaml`]: definition(`${kind}-within`, kind, 'in-guest'),
    })
})
afterAll(async () => {
  await project[Symbol.asyncDispose]()
})

async function build(name: string): Promise<{ vmid: number; labels: string[] }> {
  const { exitCode, result, events, stderr } = await project.run([name])
  expect(exitCode, stderr).toBe(0)
  const labels = events.flatMap((event) => (event.type === 'step.start' ? [event.label] : []))
  return { vmid: result.template?.vmid as number, labels }
}

type Ask = (command: string) => Promise<string>

async function factsOf(ask: Ask): Promise<Record<string, string[]>> {
  const facts: Record<string, string[]> = {}
  for (const [name, command] of Object.entries(FACTS)) facts[name] = (await ask(command)).split('\n')
  return facts
}

function differences(a: Record<string, string[]>, b: Record<string, string[]>): string[] {
  return Object.keys(FACTS).flatMap((name) => {
    const [left, right] = [new Set(a[name]), new Set(b[name])]
    const lines = [
      ...[...left].filter((line) => !right.has(line)).map((line) => `${name}: before ${line}`),
      ...[...right].filter((line) => !left.has(line)).map((line) => `${name}: within ${line}`),
    ]
    return lines.filter((line) => !ALLOWED.some(({ pattern }) => pattern.test(line)))
  })
}

describe('packages installed before a guest boots leave the same as those installed within it', () => {
  test('in a virtual machine', async () => {
    const [before, within] = [await build('vm-before'), await build('vm-within')]
    expect(before.labels.find((label) => label.includes('packages'))).toContain('brought along')
    expect(within.labels.find((label) => label.includes('packages'))).not.toContain('brought along')
    const facts: Record<string, string[]>[] = []
    for (const { vmid } of [before, within]) {
      await using clone = await bootClone({ template: vmid, vmid: 600 })
      await clone.run('cloud-init status --wait || [ $? = 2 ]')
      facts.push(await factsOf((command) => clone.run(`sudo sh -c ${quoted(command)}`)))
    }
    expect(differences(facts[0] ?? {}, facts[1] ?? {})).toEqual([])
  })

  test('in a container', async () => {
    const facts: Record<string, string[]>[] = []
    for (const name of ['lxc-before', 'lxc-within']) {
      await build(name)
      await using root = await unpacked(name)
      const ask = async (command: string) =>
        (await execa('chroot', [root.path, 'env', 'SYSTEMD_OFFLINE=1', 'sh', '-c', command])).stdout
      facts.push(await factsOf(ask))
    }
    expect(differences(facts[0] ?? {}, facts[1] ?? {})).toEqual([])
  })
})

/** The archive that a container's build has kept. */
async function unpacked(image: string): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'imagebuild-natively-'))
  const folder = join(LAB_DIR, 'storage/local/template/cache')
  const name = (await readdir(folder)).find((file) => file.includes(image))
  if (name === undefined) throw new Error(`there is no archive of ${image} in ${folder}`)
  await execa('tar', ['-xf', join(folder, name), '-C', path, '--numeric-owner', '--xattrs'])
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
