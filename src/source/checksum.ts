import { ImagebuildError } from '../core/errors.ts'

export interface Checksum {
  algorithm: 'sha256' | 'sha512'
  /** hex, lower case */
  value: string
}

const HEX_LENGTH = { sha256: 64, sha512: 128 } as const

/**
 * `sha256:<hex>`, or a bare hex digest whose length says which it is.
 * @throws ImagebuildError `definition_invalid`
 */
export function parseChecksum(text: string): Checksum {
  const [, prefix, hex = ''] = /^(?:(\w+):)?([0-9a-fA-F]+)$/.exec(text.trim()) ?? []
  const algorithm =
    hex.length === HEX_LENGTH.sha256 ? 'sha256' : hex.length === HEX_LENGTH.sha512 ? 'sha512' : undefined
  if (algorithm === undefined || (prefix !== undefined && prefix !== algorithm)) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: `"${text}" is not a checksum`,
      why: 'it must be sha256: with 64 or sha512: with 128 hexadecimal digits',
    })
  }
  return { algorithm, value: hex.toLowerCase() }
}

export function formatChecksum({ algorithm, value }: Checksum): string {
  return `${algorithm}:${value}`
}

/**
 * The checksum of `name` in a list as sha256sum(1) and sha512sum(1) write it.
 * @throws ImagebuildError `build_failed` if the list does not have it
 */
export function findInList(
  list: string,
  name: string,
  algorithm: Checksum['algorithm'],
  listUrl: string,
): Checksum {
  for (const line of list.split('\n')) {
    const [, hex, file] = /^([0-9a-fA-F]+) [ *](.+?)\r?$/.exec(line) ?? []
    if (file === name && hex?.length === HEX_LENGTH[algorithm]) return { algorithm, value: hex.toLowerCase() }
  }
  throw new ImagebuildError({
    code: 'build_failed',
    what: `${listUrl} does not list ${name}`,
    why: 'without a checksum nobody can say whether a download is what was published',
    next: 'choose another architecture or release, or give a url and checksum of your own',
  })
}
