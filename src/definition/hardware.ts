import type { Diagnostic } from './diagnostics.ts'
import type { ContainerFeatures, Hardware, WrittenFeatures } from './hardware-schema.ts'
import type { Architecture } from './source-schema.ts'
import type { YamlFile } from './yaml-file.ts'

/** Combinations that no machine has. On arm64, what was left out becomes what arm64 has. */
export function checkHardware(
  hardware: Hardware,
  architecture: Architecture,
  yaml: YamlFile,
  report: (found: Diagnostic) => void,
): Hardware {
  const complain = (key: string[], message: string, hint?: string) =>
    report(yaml.diagnostic(yaml.at(['hardware', ...key]), message, hint))
  if (hardware.efidisk?.['pre-enrolled-keys'] && hardware.efidisk.efitype === '2m') {
    complain(['efidisk', 'pre-enrolled-keys'], '`pre-enrolled-keys` needs `efitype: 4m`')
  }
  if (architecture !== 'arm64') {
    if (/^virt(-|$)/.test(hardware.machine ?? '')) {
      complain(['machine'], '`machine: virt` exists on arm64 alone', 'leave it out, or write q35')
    }
    return hardware
  }
  const adapted = { ...hardware }
  if (!yaml.has(['hardware', 'bios'])) adapted.bios = 'ovmf'
  if (!yaml.has(['hardware', 'cpu'])) adapted.cpu = 'max'
  if (adapted.bios === 'seabios') complain(['bios'], 'arm64 has no seabios', 'leave it out, or write ovmf')
  if (/^(x86-64|qemu64|kvm64)/.test(adapted.cpu)) {
    complain(['cpu'], `\`${adapted.cpu}\` is no CPU of arm64`, 'leave it out, or write host or max')
  }
  if (/^(q35|pc)/.test(adapted.machine ?? '')) {
    complain(['machine'], `arm64 has no machine \`${adapted.machine}\``, 'leave it out, or write virt')
  }
  return adapted
}

/**
 * As Proxmox's own dialog does it: without nesting, a systemd newer than 241 (Debian 11) makes create, clone and start end with
 * `WARNINGS`. Of a privileged container Proxmox lets API tokens set no feature at all.
 */
export function featuresOf(written: WrittenFeatures, unprivileged: boolean): ContainerFeatures {
  return { ...written, nesting: written.nesting ?? unprivileged }
}
