import type { MachineTraits } from '../item.ts'

/** Where administrators and layers add their own. */
export const NFTABLES_FOLDER = '/etc/nftables.d'

/** Bridges whose containers ask the machine itself for names and addresses. */
const BRIDGES = ['docker0', 'br-*', 'podman*', 'cni-*', 'nomad', 'lxcbr*', 'incusbr*', 'virbr*']

/**
 * /etc/nftables.conf. It replaces one table and leaves all others alone: Docker, Podman and fail2ban have theirs. A
 * machine that runs containers gets no forward chain, since a packet that one table drops no other table can save.
 */
export function nftablesRuleset({ containerHost }: Pick<MachineTraits, 'containerHost'>): string {
  return `#!/usr/sbin/nft -f
# What may come in: answers, pings, what the network itself needs, and the ports of two sets. To open more of them,
# put a file like this into ${NFTABLES_FOLDER} and run \`systemctl reload nftables\`:
#
#   # ${NFTABLES_FOLDER}/web.nft
#   add element inet filter open_tcp { 80, 443 }
#   add rule inet filter input_local ip saddr 192.0.2.0/24 tcp dport 9100 accept

# Made if it is not there, so that it can be deleted if it was.
table inet filter
delete table inet filter

table inet filter {
  set open_tcp {
    type inet_service
    flags interval
    elements = { 22 }
  }

  set open_udp {
    type inet_service
    flags interval
  }

  # Rules of files in ${NFTABLES_FOLDER}.
  chain input_local {
  }

  chain input {
    type filter hook input priority filter; policy drop;

    ct state established,related accept
    ct state invalid drop
    iif "lo" accept
    ip saddr 127.0.0.0/8 drop
    ip6 saddr ::1 drop

    icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
    icmp type echo-request limit rate 20/second burst 50 packets accept
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    icmpv6 type echo-request limit rate 20/second burst 50 packets accept
    # Neighbours and routers are those on the same link: nobody else can send with this hop limit.
    icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
    icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } ip6 saddr fe80::/10 accept

    # Answers of DHCP servers: they come by broadcast, or from another address than was asked.
    udp sport 67 udp dport 68 accept
    ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
${containerHost ? bridgeRules() : ''}
    tcp dport @open_tcp accept
    udp dport @open_udp accept
    jump input_local
  }
${containerHost ? '' : forwardChain()}
  chain output {
    type filter hook output priority filter; policy accept;
  }
}

include "${NFTABLES_FOLDER}/*.nft"
`
}

function forwardChain(): string {
  return `
  chain forward {
    type filter hook forward priority filter; policy drop;
  }
`
}

function bridgeRules(): string {
  return `
    # The machine's own containers: names and addresses, nothing else.
${BRIDGES.map((bridge) => `    iifname "${bridge}" meta l4proto { tcp, udp } th dport { 53, 67 } accept`).join('\n')}
`
}
