import { basename, dirname } from 'node:path'
import { readQcow2 } from './qcow2.ts'
import { formatOf } from './qemu-img.ts'

/** An uploaded image must not reach for other files of this machine. */
export async function refuseForeignFiles(source: string): Promise<void> {
  if (basename(dirname(source)) !== 'import' || formatOf(source) !== 'qcow2') return
  const header = await readQcow2(source)
  if (header === undefined)
    throw new Error(`qemu-img: Could not open '${source}': Image is not in qcow2 format`)
  if (header.backing !== undefined)
    throw new Error(`backing file not allowed for untrusted image '${source}'!`)
  if (header.externalData)
    throw new Error(`external data files are not allowed for untrusted image '${source}'!`)
}
