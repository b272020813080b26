import { lxc } from './lxc-command.ts'

/** The ids that the inside of an unprivileged container has outside, as in Proxmox: root is 100000. */
const FIRST = 100_000
const COUNT = 65_536

/** uid and gid of the container's root, as the node sees them. */
export function rootId(unprivileged: boolean): number {
  return unprivileged ? FIRST : 0
}

/** Lines of LXC's configuration. */
export function idMap(unprivileged: boolean): string[] {
  return unprivileged ? ['u', 'g'].map((kind) => `lxc.idmap = ${kind} 0 ${FIRST} ${COUNT}`) : []
}

/** The command with the ids that the container's inside sees, and with no more rights than its root has. */
export function asInside(unprivileged: boolean, command: readonly string[]): string[] {
  if (!unprivileged) return [...command]
  return [...lxc('lxc-usernsexec', '-m', `b:0:${FIRST}:${COUNT}`, '--'), ...command]
}
