import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { quote } from '../../src/core/shell-word.ts'
import { bootClone } from '../e2e/clone.ts'
import { BOOTSTRAP, LAB_DIR, makeProject, type Project } from '../e2e/harness.ts'

/**
 * Packages that a bootstrapped system brings along leave the same system as those that a guest has installed: each kind of
 * guest is built both ways, and compared as its clones see it.
 */

/** cloud-init runs it before any package may be there, so all of them are installed in the guest. */
const IN_GUEST = '#cloud-config\nruncmd: [["true"]]\n'
/** Of no effect on packages; with it, both have cloud-init. */
const BEFORE = '#cloud-config\nfinal_message: built\n'

const definition = (name: string, kind: 'vm' | 'lxc', fragments: string) => `name: ${name}
kind: ${kind}
${BOOTSTRAP}
hardware: ${kind === 'vm' ? '{ memory: 2048, disk: 4G }' : '{ memory: 512, rootfs: 4G }'}
cloudInit: [${fragments}]
hardening: baseline
template: { ${kind === 'lxc' ? 'archive: true' : 'tags: [natively]'} }
provision:
  - packages: [fail2ban, htop, jq, nginx-light, ssl-cert]
`

/** Facts of a system, by name; run as root. Paths are relative, for a system that does not run. */
const FACTS: Readonly<Record<string, string>> = {
  packages: 'dpkg-query -W | sort',
  manual: 'apt-mark showmanual | sort',
  // The third column is what presets would say, which differs with 60-image.preset.
  units: `systemctl list-unit-files --no-legend --plain --state=enabled,masked,disabled | awk '{ print $1, $2 }' | sort`,
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
/** Of its own: a system of another test, with some of the packages, would serve too. */
let cache: string
beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), 'imagebuild-natively-cache-'))
  project = await makeProject({ 'cloud-init/in-guest.yaml': IN_GUEST, 'cloud-init/before.yaml': BEFORE })
  for (const kind of ['vm', 'lxc'] as const)
    await project.write({
      [`images/${kind}-before/image.yaml`]: definition(`${kind}-before`, kind, 'before'),
      [`images/${kind}-within/image.yaml`]: definition(`${kind}-within`, kind, 'in-guest'),
    })
})
afterAll(async () => {
  await project[Symbol.asyncDispose]()
  await rm(cache, { recursive: true, force: true })
})

/** Builds an image, and has looked at where its packages were installed. */
async function build(name: string, where: 'before' | 'within'): Promise<number> {
  const { exitCode, result, events, stderr } = await project.run([name], {
    env: { IMAGEBUILD_CACHE_DIR: cache },
  })
  expect(exitCode, stderr).toBe(0)
  const labels = events.flatMap((event) => (event.type === 'step.start' ? [event.label] : []))
  const packages = labels.find((label) => /^layers? .*packages/.test(label))
  if (where === 'before') expect(packages).toMatch(/brought along$/)
  else expect(packages).not.toMatch(/brought along|lacking/)
  return result.template?.vmid as number
}

type Ask = (command: string) => Promise<string>
/** Lines, by the name of the fact. */
type Facts = Record<string, string[]>

async function factsOf(ask: Ask): Promise<Facts> {
  const facts: Facts = {}
  for (const [name, command] of Object.entries(FACTS)) facts[name] = (await ask(command)).split('\n')
  return facts
}

function differences(a: Facts, b: Facts): string[] {
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
    const facts: Facts[] = []
    for (const where of ['before', 'within'] as const) {
      await using clone = await bootClone({ template: await build(`vm-${where}`, where), vmid: 600 })
      await clone.run('cloud-init status --wait || [ $? = 2 ]')
      facts.push(await factsOf((command) => clone.run(`sudo sh -c ${quote(command)}`)))
    }
    expectAlike(facts)
  })

  test('in a container', async () => {
    const facts: Facts[] = []
    for (const where of ['before', 'within'] as const) {
      await build(`lxc-${where}`, where)
      await using root = await unpacked(`lxc-${where}`)
      const ask = async (command: string) =>
        (await execa('chroot', [root.path, 'env', 'SYSTEMD_OFFLINE=1', 'sh', '-c', command])).stdout
      facts.push(await factsOf(ask))
    }
    expectAlike(facts)
  })
})

/** Differing in nothing, and each as its packages have it. */
function expectAlike([before = {}, within = {}]: readonly Facts[]): void {
  expect(before.packages?.length).toBeGreaterThan(150)
  // Configuration files are hardening's to change.
  const spoilt = before.changed?.filter((line) => line !== '' && !/^\S+\s+c\s/.test(line))
  expect(spoilt).toEqual([])
  expect(differences(before, within)).toEqual([])
}

/** The archive that a container's build has kept. */
async function unpacked(image: string): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'imagebuild-natively-'))
  const folder = join(LAB_DIR, 'storage/local/template/cache')
  const name = (await readdir(folder)).find((file) => file.includes(image))
  if (name === undefined) throw new Error(`there is no archive of ${image} in ${folder}`)
  await execa('tar', ['-xf', join(folder, name), '-C', path, '--numeric-owner', '--xattrs'])
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}
