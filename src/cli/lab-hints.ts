import { join, resolve } from 'node:path'
import { shellWord } from '../core/shell-word.ts'

/**
 * Hints name commands and files of a Proxmox node (`pvenode`, `qm`, `/etc/pve`). A lab has none of them: of one, a person
 * reads what there is in their place. Nothing below this room knows whether it talks to a lab.
 */

/** Hints as the rest of the program words them, and what they say of a lab in this folder. */
const INSTEAD: readonly (readonly [RegExp, (dir: string, ...groups: string[]) => string])[] = [
  [
    /look at it on the node: pvenode task log (UPID:\S+)/,
    (dir, upid = '') => `look at it: ${path(dir, 'state', 'tasks', encodeURIComponent(upid))}`,
  ],
  // The lab has no web interface.
  [/Proxmox \(\S+\) → (?:VM|CT) \d+ → Console, or (?=`)/, () => ''],
  [/, on the node(?=: (?:qm|pct) )/, () => ''],
  [
    /qm terminal (\d+)(`?)(?: on [\w.-]+)?/,
    (dir, vmid = '', quote = '') => `tail -f ${path(dir, 'machines', vmid, 'serial.log')}${quote}`,
  ],
  [
    /pct console (\d+)(`?)(?: on [\w.-]+)?/,
    (dir, vmid = '', quote = '') => `tail -f ${path(dir, 'containers', vmid, 'console.log')}${quote}`,
  ],
  [
    /on [\w.-]+, as root(?:, where `[^`]+` has no task that creates it)?: (?:qm|pct) unlock \d+ && (?:qm|pct) destroy \d+/,
    () => 'imagebuild lab stop; the lab removes it when it starts again',
  ],
  [
    /the node’s journal may say more \(journalctl [^)]*\)/,
    (dir) => `the lab’s log may say more (${path(dir, 'daemon.log')})`,
  ],
  [
    /is the node up, and (?:pveproxy and pvedaemon on it|the network to it)\?/,
    () => 'does the lab run (imagebuild lab status)?',
  ],
  [
    /is there room in \/var\/tmp of the node\? Proxmox gathers uploads there\. See its journal: journalctl -u pveproxy/,
    (dir) =>
      `is there room in ${path(dir)}? The lab gathers uploads there. See its log: ${path(dir, 'daemon.log')}`,
  ],
  [
    /on [\w.-]+, as root: pveam update/,
    (dir) => `write it into ${path(dir, 'appliances.dat')}, in the form of Proxmox’s own list`,
  ],
  [/on [\w.-]+, as root: pvesm set [^\n]*\nor /, () => ''],
  [/\/etc\/pve\/datacenter\.cfg/g, (dir) => path(dir, 'datacenter.cfg')],
]

function path(...parts: string[]): string {
  return shellWord(join(...parts))
}

let folder: string | undefined

/** @param dir the folder of the lab that is talked to from now on; undefined: a Proxmox server */
export function hintsForLab(dir: string | undefined): void {
  folder = dir === undefined ? undefined : resolve(dir)
}

/** A hint, as it fits the target. */
export function fitting(hint: string): string {
  const dir = folder
  if (dir === undefined) return hint
  return INSTEAD.reduce(
    (text, [pattern, words]) =>
      text.replace(pattern, (_, ...groups: unknown[]) =>
        words(dir, ...groups.filter((group) => typeof group === 'string')),
      ),
    hint,
  )
}
