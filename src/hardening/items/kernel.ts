import type { HardeningItem, MachineTraits } from '../item.ts'

/** Settings of the kernel. Those of the network belong to a network namespace, and so to a container as well. */
interface Setting {
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

const ofTheNode = (machine: MachineTraits): string | undefined =>
  machine.kind === 'lxc' ? "a container shares its node's kernel: this is set there" : undefined

const forwards = (machine: MachineTraits): string | undefined =>
  machine.containerHost ? 'it forwards the packets of its own containers' : undefined

/**
 * Sorts after what distributions bring, and after /etc/sysctl.d/99-sysctl.conf, by which systemd reads /etc/sysctl.conf up to
 * Debian 12: the last one wins.
 */
export const sysctlFile = (id: string): string => `/etc/sysctl.d/zz-${id}.conf`

const SETTINGS: readonly Setting[] = [
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
  {
    id: 'network-forwarding',
    title: 'The machine is no router',
    sources: [
      'CIS Debian 12 3.3.1',
      'CIS Debian 13 3.3.1.2',
      'CIS Debian 13 3.3.1.3',
      'CIS Debian 13 3.3.2.1',
      'CIS Debian 13 3.3.2.2',
      'dev-sec sysctl-01',
      'dev-sec sysctl-19',
      'lynis KRNL-6000',
    ],
    scope: 'network',
    values: {
      'net.ipv4.ip_forward': '0',
      'net.ipv4.conf.all.forwarding': '0',
      'net.ipv4.conf.default.forwarding': '0',
      'net.ipv6.conf.all.forwarding': '0',
      'net.ipv6.conf.default.forwarding': '0',
    },
    notApplicable: forwards,
  },
  {
    id: 'network-redirects',
    title: 'Nobody on the network changes our routes, and we change nobody’s',
    sources: [
      'CIS Debian 12 3.3.2',
      'CIS Debian 12 3.3.5',
      'CIS Debian 12 3.3.6',
      'dev-sec sysctl-14',
      'dev-sec sysctl-15',
      'dev-sec sysctl-16',
      'dev-sec sysctl-20',
      'lynis KRNL-6000',
    ],
    scope: 'network',
    values: {
      'net.ipv4.conf.all.accept_redirects': '0',
      'net.ipv4.conf.default.accept_redirects': '0',
      'net.ipv4.conf.all.secure_redirects': '0',
      'net.ipv4.conf.default.secure_redirects': '0',
      'net.ipv4.conf.all.send_redirects': '0',
      'net.ipv4.conf.default.send_redirects': '0',
      'net.ipv6.conf.all.accept_redirects': '0',
      'net.ipv6.conf.default.accept_redirects': '0',
    },
    // For IPv6 the kernel asks the interface alone, and one that was there before has its own value already.
    everyInterface: { 'net.ipv6.conf.*.accept_redirects': '0' },
  },
  {
    id: 'network-source-routes',
    title: 'Packets that bring their own route are dropped',
    sources: ['CIS Debian 12 3.3.8', 'dev-sec sysctl-13', 'lynis KRNL-6000'],
    scope: 'network',
    values: {
      'net.ipv4.conf.all.accept_source_route': '0',
      'net.ipv4.conf.default.accept_source_route': '0',
      'net.ipv6.conf.all.accept_source_route': '0',
      'net.ipv6.conf.default.accept_source_route': '0',
    },
  },
  {
    id: 'network-spoofing',
    title: 'Packets must come from where answers would go, and others are logged',
    sources: [
      'CIS Debian 12 3.3.7',
      'CIS Debian 12 3.3.9',
      'dev-sec sysctl-02',
      'dev-sec sysctl-17',
      'lynis KRNL-6000',
    ],
    scope: 'network',
    values: {
      'net.ipv4.conf.all.rp_filter': '1',
      'net.ipv4.conf.default.rp_filter': '1',
      'net.ipv4.conf.all.log_martians': '1',
      'net.ipv4.conf.default.log_martians': '1',
    },
    // Of `all` and the interface's own value the higher one counts, and Debian 13 gives each interface a 2, which lets
    // pass what any route would answer.
    everyInterface: { 'net.ipv4.conf.*.rp_filter': '1' },
  },
  {
    id: 'network-icmp',
    title: 'Pings to everybody and broken ICMP answers are ignored',
    sources: [
      'CIS Debian 12 3.3.3',
      'CIS Debian 12 3.3.4',
      'dev-sec sysctl-03',
      'dev-sec sysctl-04',
      'lynis KRNL-6000',
    ],
    scope: 'network',
    values: {
      'net.ipv4.icmp_echo_ignore_broadcasts': '1',
      'net.ipv4.icmp_ignore_bogus_error_responses': '1',
    },
  },
  {
    id: 'network-tcp',
    title: 'TCP withstands floods of connections, and resets of those just closed',
    sources: ['CIS Debian 12 3.3.10', 'dev-sec sysctl-10', 'dev-sec sysctl-11', 'lynis KRNL-6000'],
    scope: 'network',
    values: { 'net.ipv4.tcp_syncookies': '1', 'net.ipv4.tcp_rfc1337': '1' },
  },
  {
    // systemd-networkd reads advertisements by itself, so addresses by SLAAC still come where netplan asks for them.
    id: 'network-router-advertisements',
    title: 'The kernel itself takes no IPv6 routes or addresses from routers',
    sources: ['CIS Debian 12 3.3.11', 'dev-sec sysctl-25'],
    profile: 'cis-l1',
    scope: 'network',
    values: { 'net.ipv6.conf.all.accept_ra': '0', 'net.ipv6.conf.default.accept_ra': '0' },
    notApplicable: (machine) =>
      machine.kind === 'lxc'
        ? 'ifupdown, which Proxmox configures in a container, leaves SLAAC to the kernel'
        : undefined,
  },
]

/** They come into force when the machine boots, and it boots at least once more before anybody uses it. */
const KERNEL_SETTINGS: readonly HardeningItem[] = SETTINGS.map(
  ({ id, title, sources, profile = 'baseline', values, everyInterface = {}, scope, notApplicable }) => ({
    id,
    title,
    area: 'kernel',
    sources,
    profile,
    notApplicable: (machine) =>
      (scope === 'network' ? undefined : ofTheNode(machine)) ?? notApplicable?.(machine),
    measures: {
      files: [
        {
          path: sysctlFile(id),
          content: [
            `# ${title}.`,
            ...Object.entries({ ...values, ...everyInterface }).map(([key, value]) => `${key} = ${value}`),
            '',
          ].join('\n'),
        },
      ],
    },
    checks: [
      ...Object.entries(values).map(([key, value]) => ({
        title: `${key} is ${value}`,
        kind: 'sysctl' as const,
        key,
        value,
      })),
      ...Object.entries(everyInterface).map(([key, value]) => ({
        title: `${key} is ${value}`,
        kind: 'command' as const,
        // Prints those that differ: 1 is "none", 2 is "no such file".
        command: `grep -Hvx ${value} /proc/sys/${key.replaceAll('.', '/')}`,
        exit: 1,
      })),
    ],
  }),
)

const NO_ROUTER = sysctlFile('network-forwarding')

export const KERNEL: readonly HardeningItem[] = [
  ...KERNEL_SETTINGS,
  {
    // The parent of a container host may have been no router.
    id: 'network-container-forwarding',
    title: 'What runs containers may forward their packets, whatever its parent image was',
    area: 'kernel',
    sources: ['kernel Documentation/networking/ip-sysctl.rst: ip_forward'],
    profile: 'baseline',
    notApplicable: ({ containerHost }) => (containerHost ? undefined : 'it runs no containers'),
    measures: { script: `rm -f ${NO_ROUTER}` },
    checks: [{ kind: 'file', path: NO_ROUTER, present: false }],
  },
]
