import { packagesScript } from '../src/build/packages-layer.ts'
import type { Layer, VmSpec } from '../src/definition/spec.ts'
import type { Accelerator } from '../src/lab/accelerator.ts'
import { cpuModel, processors } from '../src/lab/qemu-command.ts'

/** What Packer is given to work with; all paths are absolute. */
export interface PackerInput {
  image: VmSpec
  accelerator: Accelerator
  /** the qcow2 that both start from */
  disk: string
  seed: string
  user: string
  privateKey: string
  /** of the pair, without type and comment */
  publicKey: string
  /** seal.sh */
  seal: string
  /** where Packer writes its artifact; must not exist */
  output: string
  /** a folder for files that provisioners upload */
  files: string
}

/** A provisioner of Packer, and a local file that it needs. */
interface Provisioner {
  json: Record<string, unknown>
  file?: { path: string; content: string | Uint8Array }
}

/** Where Packer puts seal.sh in the guest: a tmpfs, so that it is not in the image. */
const SEAL = '/run/imagebuild-seal.sh'

/** Packer's template (JSON) for the same image, as a careful user of Packer 1.6.6 would write it. */
export function packerTemplate(input: PackerInput): {
  json: Record<string, unknown>
  files: { path: string; content: string | Uint8Array }[]
} {
  const provisioners = [
    // What Packer's and cloud-init's manuals both say to begin with.
    shell('cloud-init status --wait'),
    ...input.image.layers.flatMap((layer, index) => fromLayer(layer, index, input.files)),
    { json: { type: 'file', source: input.seal, destination: '/tmp/seal.sh' } },
    shell(`sudo -n install -m 0700 /tmp/seal.sh ${SEAL}`),
  ]
  return {
    json: { builders: [builder(input)], provisioners: provisioners.map(({ json }) => json) },
    files: provisioners.flatMap(({ file }) => file ?? []),
  }
}

function builder(input: PackerInput): Record<string, unknown> {
  const { hardware } = input.image
  const cpus = Number(processors(hardware, input.accelerator).cpus)
  return {
    type: 'qemu',
    qemu_binary: 'qemu-system-x86_64',
    accelerator: input.accelerator,
    machine_type: 'pc',
    cpus,
    memory: hardware.memory,
    headless: true,

    // The finished image is qcow2, as the lab's template is. skip_compaction and disk_compression keep their
    // defaults: Packer converts the disk once more at the end, without compressing it.
    disk_image: true,
    iso_url: input.disk,
    // Ours was verified when it was put on the storage; nothing is verified again in what is measured.
    iso_checksum: 'none',
    format: 'qcow2',
    ...(hardware.disk !== undefined && { disk_size: `${hardware.disk / 2 ** 20}M` }),
    // Fastest of what Packer offers, and what the lab uses too: no flush waits for this machine's disk, and
    // trimmed blocks are given back.
    disk_interface: 'virtio-scsi',
    disk_cache: 'unsafe',
    disk_discard: 'unmap',
    disk_detect_zeroes: 'unmap',
    net_device: 'virtio-net',
    output_directory: input.output,
    vm_name: 'bench.qcow2',

    // -drive here replaces all that Packer would write itself, so the system's disk is repeated, with the options
    // that Packer derives from the settings above. The seed is a virtio-scsi CD-ROM, as in the lab.
    qemuargs: [
      ['-cpu', cpuModel(hardware.cpu, input.accelerator)],
      ['-smp', `cpus=${cpus}`],
      [
        '-drive',
        `if=none,file=${input.output}/bench.qcow2,id=drive0,cache=unsafe,discard=unmap,detect-zeroes=unmap,format=qcow2`,
      ],
      ['-drive', `if=none,file=${input.seed},id=seed,media=cdrom,readonly=on,format=raw`],
      ['-device', 'virtio-scsi-pci,id=scsi0'],
      ['-device', 'scsi-hd,bus=scsi0.0,drive=drive0,bootindex=1'],
      ['-device', 'scsi-cd,bus=scsi0.0,drive=seed'],
      ['-device', 'virtio-rng-pci'],
      ['-device', 'virtio-net,netdev=user.0'],
      // The image's last console; a guest that finds nobody there is slower than one that is listened to.
      ['-serial', 'null'],
    ],

    // Nothing is typed at a boot menu, so there is nothing to wait for; a negative number is Packer's zero.
    boot_wait: '-1s',
    communicator: 'ssh',
    ssh_username: input.user,
    ssh_private_key_file: input.privateKey,
    ssh_timeout: '30m',
    // QEMU's port forwarding accepts before the guest does: each attempt while it boots counts as a handshake.
    ssh_handshake_attempts: 1000,

    // Sealing removes the user that Packer logs in with and then powers off, so it is what shuts down.
    shutdown_command: `sudo -n env BUILD_USER=${input.user} BUILD_KEY=${input.publicKey} AND_THEN=poweroff sh ${SEAL}`,
    shutdown_timeout: '15m',
  }
}

function shell(command: string): Provisioner {
  return { json: { type: 'shell', inline_shebang: '/bin/sh -e', inline: [command] } }
}

/** The same commands as our own layers, in the way that Packer has for each. */
function fromLayer(layer: Layer, index: number, folder: string): Provisioner[] {
  const path = `${folder}/layer-${index + 1}`
  const asRoot = { execute_command: '{{ .Vars }} sudo -n -E /bin/sh {{ .Path }}' }
  switch (layer.kind) {
    case 'packages':
      return [
        { json: { type: 'shell', script: path, ...asRoot }, file: { path, content: packagesScript(layer) } },
      ]
    case 'file': {
      const uploaded = `/tmp/layer-${index + 1}`
      const [owner = 'root', group = owner] = layer.owner.split(':')
      const install = `sudo -n install -D -m ${layer.mode} -o ${owner} -g ${group} ${uploaded} ${layer.path}`
      return [
        {
          json: { type: 'file', source: path, destination: uploaded },
          file: { path, content: layer.content },
        },
        shell(`${install} && rm -f ${uploaded}`),
      ]
    }
    case 'shell':
      return [{ json: { type: 'shell', script: path, ...asRoot }, file: { path, content: layer.script } }]
    case 'reboot':
      throw new Error('the benchmark has no layer that reboots')
  }
}
