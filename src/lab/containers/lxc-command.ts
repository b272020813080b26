/**
 * The PATH of LXC's programs. As root they write a container's id map themselves, unless they find newuidmap, which
 * asks /etc/subuid, a file of this machine's owner. newuidmap lies in /usr/bin; apparmor_parser, which LXC does
 * need where there is AppArmor, in /usr/sbin.
 */
const PATH = '/usr/sbin:/sbin'

/** A command line of LXC. */
export function lxc(program: `lxc-${string}`, ...args: string[]): string[] {
  return ['/usr/bin/env', `PATH=${PATH}`, `/usr/bin/${program}`, ...args]
}
