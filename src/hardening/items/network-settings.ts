import type { MachineTraits } from '../item.ts'
import type { Setting } from './kernel-settings.ts'

const forwards = (machine: MachineTraits): string | undefined =>
  machine.containerHost ? 'it forwards the packets of its own containers' : undefined

/** Of a network namespace. */
export const NETWORK_SETTINGS: readonly Setting[] = [
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
