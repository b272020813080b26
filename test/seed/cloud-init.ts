import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { unpackedTo, unpackPackages } from './debian-packages.ts'
import { PYTHON } from './python.ts'

/**
 * Debian's own cloud-init, unpacked and not installed: as a package it would take the machine that runs the tests
 * for a guest of its own.
 */

export const RELEASES = ['bullseye', 'bookworm', 'trixie'] as const
export type Release = (typeof RELEASES)[number]

/** Where a file of the unpacked packages is. */
export const unpacked = (release: Release, path: string) => join(unpackedTo('cloud-init', release), path)

const pythonPath = (release: Release) => unpacked(release, 'usr/lib/python3/dist-packages')

/** Why a release's cloud-init cannot run here, or false. */
export function noCloudInit(release: Release): string | false {
  if (process.getuid?.() !== 0) return 'needs root'
  if (!existsSync(pythonPath(release))) return 'not there (node test/prerequisites.ts)'
  try {
    execFileSync(PYTHON, ['-B', '-c', 'import cloudinit.cmd.devel.net_convert'], {
      env: { PYTHONPATH: pythonPath(release) },
      stdio: 'ignore',
    })
    return false
  } catch {
    return `${PYTHON} cannot load it`
  }
}

/**
 * Gets it, with ifupdown, which is not for the tests' own machine either.
 * @throws Error of apt-get
 */
export function fetchCloudInit(release: Release): void {
  unpackPackages('cloud-init', release, ['cloud-init', 'ifupdown'])
}

export interface Written {
  /** network cards of the guest by MAC, after cloud-init has been at them */
  cards: Record<string, string>
  /** renderer → path → content, without comments and empty lines */
  files: Partial<Record<'netplan' | 'networkd' | 'eni' | 'network-manager', Record<string, string>>>
  /** what the `then` commands printed */
  output: string
}

/** What cloud-init's first stage does with a network-config (`Init.apply_network_config`), by every renderer it has. */
const STAGE = `
import json, os, sys, yaml
from cloudinit import distros, util
from cloudinit.cmd.devel import net_convert

folder = sys.argv[1]
document = folder + '/network-config'
with open(document) as file:
    config = yaml.safe_load(file)
networking = distros.fetch('debian')('debian', {}, None).networking
networking.wait_for_physdevs(config)
networking.apply_network_config_names(config)
# The guest's account, which this machine need not have.
util.chownbyname = lambda *args: None

parser = net_convert.get_parser()
kinds = next(a.choices for a in parser._actions if a.dest == 'output_kind')
files = {}
for kind in ['netplan', 'networkd', 'eni', 'network-manager']:
    if kind not in kinds:
        continue
    target = folder + '/' + kind
    net_convert.handle_args('net-convert', parser.parse_args(
        ['-p', document, '-k', 'yaml', '-d', target, '-D', 'debian', '-O', kind]))
    files[kind] = {}
    for parent, _, names in os.walk(target):
        for name in names:
            with open(os.path.join(parent, name)) as file:
                lines = [line for line in file if line.strip() and not line.startswith('#')]
            files[kind][os.path.relpath(os.path.join(parent, name), target)] = ''.join(lines)
cards = {}
for name in os.listdir('/sys/class/net'):
    with open('/sys/class/net/' + name + '/address') as file:
        cards[file.read().strip()] = name
with open(folder + '/written', 'w') as file:
    json.dump({'cards': cards, 'files': files}, file)
`

/**
 * Has a release's cloud-init write what it makes of a network-config, in a network namespace of its own.
 *
 * @param guest.folder empty; `<renderer>/` in it becomes the guest's root
 * @param guest.cards name → MAC: what the kernel has called them
 * @param guest.then shell commands to run there at last, in that folder
 * @throws execa's error with what cloud-init said
 */
export async function applyNetwork(
  release: Release,
  document: string,
  guest: { folder: string; cards: Record<string, string>; then: readonly string[] },
): Promise<Written> {
  const { folder, cards, then } = guest
  await writeFile(join(folder, 'network-config'), document)
  await writeFile(join(folder, 'stage.py'), STAGE)
  const script = [
    'set -e',
    'mount -t sysfs sysfs /sys',
    'ip link set lo up',
    ...Object.entries(cards).map(
      ([name, mac], index) => `ip link add ${name} address ${mac} type veth peer name peer${index}`,
    ),
    `PYTHONPATH=${pythonPath(release)} ${PYTHON} -B stage.py "$PWD" >&2`,
    ...then,
  ]
  const { stdout } = await execa('unshare', ['--net', '--mount', 'sh', '-c', script.join('\n')], {
    cwd: folder,
  })
  const written = JSON.parse(await readFile(join(folder, 'written'), 'utf8')) as Omit<Written, 'output'>
  return { ...written, output: stdout }
}
