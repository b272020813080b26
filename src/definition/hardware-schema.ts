import { z } from 'zod'
import { size } from './formats.ts'
import { onlyWhere, withRules } from './rules.ts'

/** The language of `hardware`, in the names that Proxmox has for it. */

export const hardware = withRules(
  z.strictObject({
    cores: z.int().min(1).max(512).default(1),
    sockets: z.int().min(1).max(4).default(1),
    cpu: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_.+,=;-]*$/, 'must be a CPU type that Proxmox knows')
      .default('x86-64-v2-AES')
      .describe('as Proxmox writes it: x86-64-v2-AES, host, max, …; max for arm64 when missing'),
    memory: z.int().min(64).max(4_194_304).default(1024).describe('MiB'),
    disk: size.optional().describe('size of the template’s disk; the source’s own when missing'),
    bios: z
      .enum(['seabios', 'ovmf'])
      .default('seabios')
      .describe('ovmf is UEFI; arm64 has nothing else, and gets it when missing'),
    machine: z
      .string()
      .regex(/^[a-z0-9.+-]+$/, 'must be a machine type that Proxmox knows: q35, pc-i440fx-9.0')
      .optional()
      .describe('q35, pc, …; Proxmox’s default when missing'),
    efidisk: z
      .strictObject({
        efitype: z.enum(['2m', '4m']).default('4m'),
        'pre-enrolled-keys': z.boolean().default(false).describe('Secure Boot with Microsoft’s keys'),
      })
      .optional()
      .describe('only with bios: ovmf, which gets one anyway'),
    ostype: z.enum(['l26', 'l24', 'other']).default('l26'),
    vga: z.enum(['serial0', 'std', 'virtio', 'none']).default('serial0'),
  }),
  onlyWhere('efidisk', 'bios', 'ovmf'),
)

export const containerHardware = z.strictObject({
  cores: z.int().min(1).max(512).default(1),
  memory: z.int().min(16).max(4_194_304).default(512).describe('MiB'),
  swap: z.int().min(0).max(4_194_304).default(512).describe('MiB'),
  rootfs: size.prefault('4G').describe('size of the root file system'),
})

/** What a container may do beyond the usual. Proxmox lets API tokens switch on `nesting` alone. */
export const features = z.strictObject({
  nesting: z
    .boolean()
    .optional()
    .describe(
      'what systemd’s sandboxes need, and containers within it: Docker; on for unprivileged containers when missing',
    ),
  keyctl: z.boolean().optional().describe('the kernel’s key rings; only root@pam by password may set it'),
  fuse: z.boolean().optional().describe('FUSE file systems; only root@pam by password may set it'),
  mknod: z.boolean().optional().describe('device nodes; only root@pam by password may set it'),
  mount: z
    .array(z.string().regex(/^[a-z0-9_]+$/, 'must be a file system type: nfs, cifs, …'))
    .min(1)
    .optional()
    .describe('types of file systems it may mount; only root@pam by password may set it'),
})

/** As Proxmox: `size`s in bytes, `memory` and `swap` in MiB. */
export type Hardware = z.output<typeof hardware>
export type ContainerHardware = z.output<typeof containerHardware>
export type WrittenFeatures = z.output<typeof features>

/** With what is meant where nothing is written. */
export type ContainerFeatures = WrittenFeatures & { nesting: boolean }
