const FOLDER = '/usr/share/OVMF'

/** Bytes of the variable store that OVMF expects; a storage may have rounded the disk up. */
export const VARS_BYTES = { '4m': 540672, '2m': 131072 } as const

export interface Firmware {
  code: string
  /** what a new efidisk is filled with */
  vars: string
  varsBytes: number
}

/**
 * OVMF's files (Debian package `ovmf`) for an efidisk's options `efitype` and `pre-enrolled-keys`. The code that
 * enforces Secure Boot needs SMM, which only machine q35 has: on pc, keys are there but enforce nothing, as in
 * Proxmox. Files of 2 MiB have no keys.
 */
export function firmware(options: Record<string, string>, q35 = false): Firmware {
  if (options.efitype === '2m') {
    return { code: `${FOLDER}/OVMF_CODE.fd`, vars: `${FOLDER}/OVMF_VARS.fd`, varsBytes: VARS_BYTES['2m'] }
  }
  const keys = options['pre-enrolled-keys'] === '1' ? '.ms' : ''
  return {
    code: `${FOLDER}/OVMF_CODE_4M${q35 ? keys : ''}.fd`,
    vars: `${FOLDER}/OVMF_VARS_4M${keys}.fd`,
    varsBytes: VARS_BYTES['4m'],
  }
}
