/** OpenPGP public keys in a file, as RFC 9580 has them: packets, armored or not. */

const PUBLIC_KEY = 6
const SECRET_KEYS = [5, 7]

/**
 * The keys as packets alone, which is what gpgv reads. Whether they are sound is gpgv's to say.
 * @returns what is wrong where there are none
 */
export function readPublicKeys(
  bytes: Uint8Array,
): { keyring: Uint8Array } | { mistake: string; hint?: string } {
  const text = Buffer.from(bytes).toString('latin1')
  const isArmored = text.includes('-----BEGIN PGP ')
  const packets = isArmored ? withoutArmor(text) : bytes
  const tags = tagsOf(packets)
  if (text.includes('-----BEGIN PGP PRIVATE KEY') || tags?.some((tag) => SECRET_KEYS.includes(tag)))
    return { mistake: 'is a private key', hint: 'export its public half: gpg --armor --export' }
  // The magic of GnuPG's own store, after the length and the kind of its first entry.
  if (text.slice(8, 12) === 'KBXf')
    return { mistake: 'is a keybox of GnuPG', hint: 'export the keys: gpg --armor --export' }
  if (tags?.[0] !== PUBLIC_KEY)
    return {
      mistake: 'is no OpenPGP public key',
      hint: 'the file that apt has in Signed-By, or what gpg --armor --export writes',
    }
  return { keyring: packets }
}

/** Whatever stands in blocks of public keys; the checksum behind each is optional, and nobody needs it (RFC 9580, 6.1). */
function withoutArmor(text: string): Uint8Array {
  const blocks = text.matchAll(
    /^-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n(?:.*:.*\n)*[ \t]*\r?\n([A-Za-z0-9+/\s]*=*)[\s\S]*?^-----END PGP PUBLIC KEY BLOCK-----/gm,
  )
  return Buffer.concat([...blocks].map(([, body = '']) => Buffer.from(body, 'base64')))
}

/** Kinds of all packets, in their order (RFC 9580, 4.2); undefined for what is not made of whole packets. */
function tagsOf(bytes: Uint8Array): number[] | undefined {
  const view = Buffer.from(bytes)
  const tags: number[] = []
  for (let at = 0; at < view.length; ) {
    const header = headerAt(view, at)
    if (header === undefined || header.end > view.length) return undefined
    tags.push(header.tag)
    at = header.end
  }
  return tags
}

/** Lengths that are told piece by piece, or not at all, are not allowed for keys. */
function headerAt(view: Buffer, at: number): { tag: number; end: number } | undefined {
  const first = view[at] as number
  if ((first & 0x80) === 0) return undefined
  const isNew = (first & 0x40) !== 0
  const tag = isNew ? first & 0x3f : (first >> 2) & 0x0f
  const octet = view[at + 1] ?? 0
  const size = isNew
    ? octet < 192
      ? 1
      : octet < 224
        ? 2
        : octet === 255
          ? 5
          : 0
    : ([1, 2, 4, 0][first & 3] as number)
  const body = at + 1 + size
  if (size === 0 || body > view.length) return undefined
  const length = !isNew
    ? view.readUIntBE(at + 1, size)
    : size === 1
      ? octet
      : size === 2
        ? ((octet - 192) << 8) + (view[at + 2] as number) + 192
        : view.readUInt32BE(at + 2)
  return { tag, end: body + length }
}
