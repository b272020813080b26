import { readFile } from 'node:fs/promises'

/** Bytes through guests' interfaces, counted at the node's ends: what a tap or veth sends, the guest receives. */
export async function traffic(devices: readonly string[]): Promise<{ toGuest: number; fromGuest: number }> {
  const total = async (counter: string) => {
    const counts = devices.map((device) =>
      readFile(`/sys/class/net/${device}/statistics/${counter}`, 'utf8').catch(() => '0'),
    )
    return (await Promise.all(counts)).reduce((sum, count) => sum + Number(count), 0)
  }
  const [toGuest, fromGuest] = await Promise.all([total('tx_bytes'), total('rx_bytes')])
  return { toGuest, fromGuest }
}
