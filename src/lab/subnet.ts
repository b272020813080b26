/** An IPv4 network of the lab: a /24 with its parts. */
export interface Subnet {
  /** 10.83.0.0/24 */
  cidr: string
  /** the bridge's own address, which is gateway and name server for the guests */
  gateway: string
  netmask: string
  /** addresses that nothing hands out: for guests with a fixed one */
  pool: { first: string; last: string }
  /** addresses that DHCP hands out */
  dhcp: { first: string; last: string }
}

/** 10.83.<third>.0/24: the same in each lab unless this machine already has that network elsewhere. */
export function subnet(third: number): Subnet {
  const host = (last: number) => `10.83.${third}.${last}`
  return {
    cidr: `${host(0)}/24`,
    gateway: host(1),
    netmask: '255.255.255.0',
    pool: { first: host(100), last: host(199) },
    dhcp: { first: host(200), last: host(250) },
  }
}

/** A row of `ip -json route show table all`. */
export interface Route {
  dst?: string
  dev?: string
}

/**
 * A /24 of 10.83.0.0/16 that no route of another interface reaches into: the one that the lab had before, where guests have
 * addresses, or else the first.
 * @param before its cidr
 */
export function freeSubnet(routes: readonly Route[], bridge: string, before?: string): Subnet | undefined {
  const taken = routes
    .filter(({ dst, dev }) => dev !== bridge && dst !== undefined && dst !== 'default')
    .map(range)
  const isFree = (third: number) => {
    const first = number(`10.83.${third}.0`)
    return !taken.some((other) => other && other.first <= first + 255 && other.last >= first)
  }
  const all = Array.from({ length: 256 }, (_, third) => third)
  const same = all.find((third) => subnet(third).cidr === before && isFree(third))
  const third = same ?? all.find(isFree)
  return third === undefined ? undefined : subnet(third)
}

function range({ dst = '' }: Route): { first: number; last: number } | undefined {
  const [address = '', bits = '32'] = dst.split('/')
  if (!/^\d+(\.\d+){3}$/.test(address)) return undefined
  const size = 2 ** (32 - Number(bits))
  // A route to half of the Internet (VPNs set those) is as good as a default route.
  if (size > 2 ** 24) return undefined
  const first = Math.floor(number(address) / size) * size
  return { first, last: first + size - 1 }
}

function number(address: string): number {
  return address.split('.').reduce((value, byte) => value * 256 + Number(byte), 0)
}
