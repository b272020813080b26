import type { HardeningItem } from '../item.ts'

/** Settings of the kernel. Those of the network belong to a network namespace, and so to a container as well. */
export interface Setting {
  id: string
  title: string
  sources: readonly string[]
  profile?: HardeningItem['profile']
  values: Readonly<Record<string, string>>
  /** by globs, which have no single value to ask for: each interface is asked instead */
  everyInterface?: Readonly<Record<string, string>>
  /** missing: the whole kernel's, which in a container is the node's business */
  scope?: 'network'
  notApplicable?: HardeningItem['notApplicable']
}

/** The whole kernel's. */
export const KERNEL_SETTINGS: readonly Setting[] = [
  {
    id: 'kernel-pointers',
    title: 'Addresses and messages of the kernel are for root only',
    sources: [
      'CIS Debian 13 1.5.5',
      'CIS Debian 13 1.5.8',
      'lynis KRNL-6000',
      'kernel Documentation/admin-guide/sysctl/kernel.rst: kptr_restrict, dmesg_restrict, perf_event_paranoid',
    ],
    values: {
      'kernel.kptr_restrict': '2',
      'kernel.dmesg_restrict': '1',
      'kernel.perf_event_paranoid': '3',
    },
  },
  {
    id: 'kernel-aslr',
    title: 'Address spaces are laid out at random',
    sources: ['CIS Debian 12 1.5.1', 'dev-sec sysctl-32', 'lynis KRNL-6000'],
    values: { 'kernel.randomize_va_space': '2' },
  },
  {
    id: 'kernel-ptrace',
    title: 'A process can be traced by its parent only',
    sources: ['CIS Debian 12 1.5.2', 'lynis KRNL-6000', 'kernel Documentation/admin-guide/LSM/Yama.rst'],
    values: { 'kernel.yama.ptrace_scope': '1' },
  },
  {
    id: 'kernel-sysrq',
    title: 'The SysRq key does nothing',
    sources: ['dev-sec sysctl-30', 'lynis KRNL-6000', 'kernel Documentation/admin-guide/sysrq.rst'],
    values: { 'kernel.sysrq': '0' },
  },
  {
    id: 'kernel-bpf',
    title: 'Only root loads BPF programs, and the compiler of them is hardened',
    sources: [
      'lynis KRNL-6000',
      'kernel Documentation/admin-guide/sysctl/kernel.rst: unprivileged_bpf_disabled',
      'kernel Documentation/admin-guide/sysctl/net.rst: bpf_jit_harden',
    ],
    values: { 'kernel.unprivileged_bpf_disabled': '1', 'net.core.bpf_jit_harden': '2' },
  },
  {
    id: 'kernel-tty',
    title: 'Line disciplines of terminals are not loaded on request',
    sources: ['lynis KRNL-6000', 'kernel Documentation/admin-guide/sysctl: dev.tty.ldisc_autoload'],
    values: { 'dev.tty.ldisc_autoload': '0' },
  },
  {
    id: 'kernel-links',
    title: 'Links and files in folders that everybody can write to lead nobody astray',
    sources: ['dev-sec sysctl-34', 'lynis KRNL-6000', 'kernel Documentation/admin-guide/sysctl/fs.rst'],
    values: {
      'fs.protected_fifos': '2',
      'fs.protected_hardlinks': '1',
      'fs.protected_regular': '2',
      'fs.protected_symlinks': '1',
    },
  },
  {
    id: 'kernel-suid-dumps',
    title: 'Programs with set-uid leave no memory image, others one with a number of its own',
    sources: ['CIS Debian 12 1.5.3', 'dev-sec sysctl-31a', 'lynis KRNL-6000'],
    values: { 'fs.suid_dumpable': '0', 'kernel.core_uses_pid': '1' },
  },
]
