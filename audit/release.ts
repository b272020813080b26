/** Releases of Debian that the shipped image is audited with, and their code names. */
export const RELEASES = { '12': 'bookworm', '13': 'trixie' } as const
export type Release = keyof typeof RELEASES

/** What the image is, as it is shipped. */
export const SHIPPED: Release = '13'

export function isRelease(text: string): text is Release {
  return Object.hasOwn(RELEASES, text)
}
