const UNITS = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }

/** Bytes of a disk, as its entry in a configuration says it (`local:9000/disk.qcow2,size=10G`); undefined where it does not. */
export function sizeIn(entry: unknown): number | undefined {
  const found = /(?:^|,)size=(\d+)([KMGT]?)/.exec(String(entry ?? ''))
  return found?.[1] === undefined
    ? undefined
    : Number(found[1]) * UNITS[(found[2] ?? '') as keyof typeof UNITS]
}
