import { copyFile, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { machineAccess } from '../src/build/access.ts'
import { packagesScript } from '../src/build/packages-layer.ts'
import { quote } from '../src/core/shell-word.ts'
import type { Layer, VmSpec } from '../src/definition/spec.ts'
import { chooseAccelerator } from '../src/lab/accelerator.ts'
import { cpuModel, processors } from '../src/lab/qemu-command.ts'
import { benchSeed } from './bench-seed.ts'
import type { TimedBuild } from './timed-build.ts'
import { PHASES } from './timed-build.ts'
import { ROOT } from './workspace.ts'

/**
 * The floor: QEMU alone, with no API, no SSH and no progress shown. cloud-init runs the layers and the seal as one script;
 * the machine powers itself off. No tool that does the same work can be quicker than this.
 */
export interface FloorJob {
  disk: string
  seed: string
  copy: string
  qemu: readonly string[]
  size: number | undefined
}

export async function prepareFloor(
  folder: string,
  image: VmSpec,
  disk: string,
  signal: AbortSignal,
): Promise<FloorJob> {
  const at = (name: string) => join(folder, name)
  const { access } = await machineAccess('floor', signal)
  const seal = await readFile(join(ROOT, 'src/build/seal.sh'), 'utf8')
  const key = access.userKey.publicKey.split(' ')[1] ?? ''
  const script = [
    'set -eu',
    ...image.layers.map((layer) => `(\n${scriptOf(layer)}\n)`),
    `export BUILD_USER=${quote(access.user)} BUILD_KEY=${quote(key)} AND_THEN=poweroff`,
    seal,
  ].join('\n')
  await writeFile(at('floor.iso'), benchSeed(image, access, [script]))
  const { hardware } = image
  const accelerator = await chooseAccelerator()
  const drive = 'cache=unsafe,discard=unmap,detect-zeroes=unmap,format=qcow2'
  return {
    disk,
    seed: at('floor.iso'),
    copy: at('floor.qcow2'),
    size: hardware.disk,
    qemu: [
      ...['-no-user-config', '-nodefaults', '-display', 'none', '-no-reboot', '-machine', 'pc,graphics=off'],
      ...['-accel', accelerator, '-cpu', cpuModel(hardware.cpu, accelerator)],
      ...[
        '-smp',
        String(processors(hardware, accelerator).cpus),
        '-m',
        String(hardware.memory),
        '-rtc',
        'base=utc',
      ],
      ...['-drive', `if=none,file=${at('floor.qcow2')},id=disk,${drive}`],
      ...['-drive', `if=none,file=${at('floor.iso')},id=seed,media=cdrom,readonly=on,format=raw`],
      ...['-device', 'virtio-scsi-pci,id=scsi0', '-device', 'scsi-hd,bus=scsi0.0,drive=disk,bootindex=1'],
      ...['-device', 'scsi-cd,bus=scsi0.0,drive=seed', '-device', 'virtio-rng-pci'],
      ...['-netdev', 'user,id=net', '-device', 'virtio-net,netdev=net', '-serial', `file:${at('floor.log')}`],
    ],
  }
}

/** @throws Error with the end of the console where the script did not come to its end */
export async function floorBuild(
  { disk, copy, size, qemu }: FloorJob,
  signal: AbortSignal,
): Promise<TimedBuild> {
  const started = performance.now()
  try {
    await copyFile(disk, copy)
    if (size !== undefined)
      await execa('qemu-img', ['resize', '-q', copy, String(size)], { cancelSignal: signal })
    await execa('qemu-system-x86_64', qemu, { cancelSignal: signal, stdin: 'ignore' })
    const console = await readFile(copy.replace(/qcow2$/, 'log'), 'utf8')
    if (!console.includes('reboot: Power down'))
      throw new Error(`the floor did not come to its end:\n${console.slice(-2000)}`)
  } finally {
    await rm(copy, { force: true })
  }
  const phases = Object.fromEntries(PHASES.map((phase) => [phase, 0])) as TimedBuild['phases']
  return { seconds: (performance.now() - started) / 1000, phases }
}

function scriptOf(layer: Layer): string {
  switch (layer.kind) {
    case 'packages':
      return packagesScript(layer)
    case 'file':
      return [
        `printf %s ${quote(Buffer.from(layer.content).toString('base64'))} | base64 -d > ${layer.path}`,
        `chown ${layer.owner} ${layer.path}; chmod ${layer.mode} ${layer.path}`,
      ].join('\n')
    case 'shell':
      return Buffer.from(layer.script).toString('utf8')
    case 'reboot':
      throw new Error('the benchmark has no layer that reboots')
  }
}
