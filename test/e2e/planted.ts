import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { poll } from '../../src/core/scope.ts'
import type { Pve } from '../../src/pve/client.ts'
import { LAB_DIR } from './harness.ts'

/**
 * A copy of a template into whose disk something was put by hand, while it did not run: as if sealing had forgotten it.
 * @param plant gets the folder where the root file system is mounted
 */
export async function plantedTemplate(
  pve: Pve,
  kind: 'vm' | 'lxc',
  { from, to }: { from: number; to: number },
  plant: (root: string) => Promise<void>,
): Promise<void> {
  const node = pve.api.nodes.$('lab')
  const guests = (kind === 'vm' ? node.qemu : node.lxc) as typeof node.qemu
  const upid = (await guests.$(from).clone.$post({ newid: to, full: true })) as string
  await pve.waitTask(upid, { seconds: 300 })
  const { stdout } = await execa('find', [LAB_DIR, '-name', `vm-${to}-disk-0*`, '-type', 'f'])
  await changeDisk(stdout.split('\n')[0] as string, plant)
  await guests.$(to).template.$post()
  const signal = AbortSignal.timeout(60_000)
  await poll(async () => ((await guests.$(to).config.$get()).template ? true : undefined), { signal })
}

/** Of a machine the disk is a qcow2 image with partitions; of a container a raw file system. */
async function changeDisk(image: string, plant: (root: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-e2e-planted-'))
  const root = join(folder, 'root')
  try {
    await execa('mkdir', [root])
    const { format } = JSON.parse((await execa('qemu-img', ['info', '--output=json', image])).stdout) as {
      format: string
    }
    const raw = format === 'raw' ? image : join(folder, 'disk.raw')
    if (raw !== image) await execa('qemu-img', ['convert', '-O', 'raw', image, raw])
    await execa('mount', ['-o', `loop,offset=${await rootOffset(raw)}`, raw, root])
    try {
      await plant(root)
      // In an unprivileged container root is somebody else's number.
      const { uid } = await stat(root)
      if (uid !== 0)
        await execa('find', [root, '-xdev', '-user', '0', '-exec', 'chown', '-h', `${uid}:${uid}`, '{}', '+'])
    } finally {
      await execa('umount', [root])
    }
    if (raw !== image) await execa('qemu-img', ['convert', '-O', format, raw, image])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Bytes before the largest partition; 0 where there are none. */
async function rootOffset(disk: string): Promise<number> {
  const { stdout, exitCode } = await execa('sfdisk', ['--json', disk], { reject: false })
  if (exitCode !== 0) return 0
  const { partitiontable } = JSON.parse(stdout) as {
    partitiontable: { sectorsize: number; partitions: { start: number; size: number }[] }
  }
  const largest = partitiontable.partitions.reduce((a, b) => (b.size > a.size ? b : a))
  return largest.start * partitiontable.sectorsize
}
