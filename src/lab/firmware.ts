const FOLDER = '/usr/share/OVMF'

/** Bytes of the variable store that OVMF expects; a storage may have rounded the disk up. */
export const VARS_BYTES = { '4m': 540672, '2m': 131072 } as const

export interface Firmware {
  code: string
  /** what a new efidisk is filled with */
  vars: string
  varsBytes: number
}

/** OVMF's files (Debian package `ovmf`) for an efidisk's options `efitype` and `pre-enrolled-keys`. */
export function firmware(options: Record<string, string>): Firmware {
  const type = options.efitype === '2m' ? '2m' : '4m'
  const size = type === '4m' ? '_4M' : ''
  const keys = options['pre-enrolled-keys'] === '1' ? '.ms' : ''
  return {
    code: `${FOLDER}/OVMF_CODE${size}${keys}.fd`,
    vars: `${FOLDER}/OVMF_VARS${size}${keys}.fd`,
    varsBytes: VARS_BYTES[type],
  }
}
