import type { Question } from '../definition/check.ts'

/**
 * One measure: what it does, who asks for it, where it applies, and the checks that prove it on a clone. An item is
 * data; `expand.ts` makes layers of it. Its id is part of the language (`hardening.except`), so ids stay.
 */
export interface HardeningItem {
  /** kebab-case, beginning with what it is about: `sshd-algorithms` */
  id: string
  /** one line for people */
  title: string
  /** items of one area are one layer, in this order: see AREAS */
  area: Area
  /** who asks for it, with the number there: `CIS Debian 12 5.1.20`, `dev-sec sshd-03`, `ssh-audit policy …` */
  sources: readonly string[]
  /** `cis-l1` contains `baseline`: an item of the baseline names only that */
  profile: 'baseline' | 'cis-l1'
  /** why it cannot apply to such a machine; missing: it applies everywhere */
  notApplicable?(machine: MachineTraits): string | undefined
  /** packages that it refuses, where a definition may ask for them */
  forbids?: readonly string[]
  /** what is done; a function where machines differ, or depending on which items are applied, by their ids */
  measures: Measures | ((machine: MachineTraits, applied: ReadonlySet<string>) => Measures)
  /** each with a title of its own where there are several */
  checks:
    | readonly ItemCheck[]
    | ((machine: MachineTraits, applied: ReadonlySet<string>) => readonly ItemCheck[])
}

export type ItemCheck = Question & { title?: string }

export interface Measures {
  /** Debian packages that it needs: all items' are installed together, before any other layer */
  packages?: readonly string[]
  /** packages that must not be there */
  remove?: readonly string[]
  files?: readonly HardeningFile[]
  /** run as root by /bin/sh -eu after the files are there; may run twice */
  script?: string
  /** profiles of pam-auth-update(8): those of all items are enabled together, after their area's scripts */
  pam?: readonly string[]
  /** systemd units that start at boot; those of all items are enabled at the end */
  enable?: readonly string[]
  /** the same, as the last thing before sealing: what would shut the build itself out */
  atSeal?: string
}

export interface HardeningFile {
  path: string
  content: string
  /** default 0644 */
  mode?: string
  /** default root:root */
  owner?: string
}

/** What decides whether an item applies. */
export interface MachineTraits {
  kind: 'vm' | 'lxc'
  /** containers only */
  unprivileged: boolean
  /** runs containers itself: Docker, Podman, Nomad … */
  containerHost: boolean
  /** only post-quantum key exchange is to be left after sealing */
  postQuantum: boolean
}

export const AREAS = [
  'packages',
  'accounts',
  'sudo',
  'kernel',
  'files',
  'services',
  'logging',
  'firewall',
  'updates',
  'integrity',
  'sshd',
] as const
export type Area = (typeof AREAS)[number]
