/** What every source needs from its caller: where to keep things, when to stop, whom to tell. */
export interface SourceContext {
  /** folder for downloads and bootstrapped systems; made on first use, may be shared by several processes */
  cacheDir: string
  signal: AbortSignal
  /** bytes done of the current transfer; `total` is missing where nobody knows it */
  onProgress?: (done: number, total?: number) => void
  /** one line that a tool printed */
  onLine?: (line: string) => void
  /** what a person should know although the work goes on */
  onWarning?: (message: string) => void
  /** other servers with the same layout as the public ones (a mirror inside a company), without a trailing slash */
  baseUrls?: { debian?: string; ubuntu?: string; linuxcontainers?: string }
  /** keyring that Ubuntu's SHA256SUMS must be signed with, instead of the one that is carried along */
  ubuntuKeyring?: string
  /**
   * hosts (with their port, if it is not the usual one) that a server may redirect to although their addresses are loopback
   * or private; where the list is given, even an empty one, any other such redirect is refused
   */
  privateHosts?: readonly string[]
  /** a transfer that brings no byte for so many seconds has failed; 60 unless given */
  stallSeconds?: number
  /** an index of packages or of vulnerabilities that is not complete after so many seconds has failed; 1800 unless given */
  transferSeconds?: number
}

export type Architecture = 'amd64' | 'arm64'

/** A file whose bytes have been checked: in the cache, named by what is in it, or where a definition says that it lies. */
export interface CachedFile {
  path: string
  /** `sha256:<hex>` or `sha512:<hex>` over the bytes of the file at `path` */
  digest: string
  /** bytes */
  size: number
  /** what it looked like when its digest was last compared: see `confirmUnchanged` */
  stamp: string
}
