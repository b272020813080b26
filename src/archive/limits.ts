/** What an archive may cost before it is taken for an attack (or an accident). */
export interface ArchiveLimits {
  /** bytes of the unpacked archive, headers included */
  uncompressed: number
  entries: number
  /** unpacked bytes for each packed one; looked at only past the first `RATIO_FROM` bytes */
  ratio: number
}

export const DEFAULT_LIMITS: Readonly<ArchiveLimits> = {
  // Whoever clones a template unpacks all of it: Proxmox's own default for a container is 8 GiB.
  uncompressed: 64 * 2 ** 30,
  // Debian with a desktop has about 300,000. Each costs this process some 150 bytes.
  entries: 1_000_000,
  // Systems pack 2 to 6 times; gzip cannot exceed 1,032, zeros in zstd reach 30,000.
  ratio: 100,
}

/** Bytes; an archive of some empty files packs better than any limit, and hurts nobody. */
export const RATIO_FROM = 256 * 2 ** 20

/** Bytes of extended headers (long names, attributes) before one entry. Linux caps all attributes of a file at 64 KiB each. */
export const HEADER_LIMIT = 2 ** 20
