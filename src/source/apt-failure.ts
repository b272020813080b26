import { asImagebuildError, ImagebuildError } from '../core/errors.ts'

/** What apt-get asked in vain for, by its three ways to say so in English. */
export function missingPackages(output: string): string[] {
  const complaints =
    /Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate|Version '[^']+' for '([^']+)' was not found/g
  const names = [...output.matchAll(complaints)].map(([, unknown, virtual, version]) =>
    String(unknown ?? virtual ?? version),
  )
  return [...new Set(names)]
}

/**
 * What apt says of an archive that it cannot get, told in one sentence: by apt, it stands among forty lines of what came
 * of it.
 */
export class AptComplaints {
  /** by address: apt's own reason */
  readonly #failed = new Map<string, string>()
  /** of `Err:3 <address> …`, whose reason is the next line */
  #pending: string | undefined

  /** To be called with every line that is printed. */
  readonly read = (line: string): void => {
    if (this.#pending !== undefined && /^\s+\S/.test(line)) this.#failed.set(this.#pending, line.trim())
    this.#pending = /^Err:\d+ (\S+)/.exec(line)?.[1]
    // Tried again, it came.
    const [, came] = /^(?:Get|Hit):\d+ (\S+)/.exec(line) ?? []
    if (came !== undefined) this.#failed.delete(came)
    const [, url, why = ''] = /^[EW]: Failed to fetch (\S+)\s+(.*)/.exec(line) ?? []
    if (url !== undefined) this.#failed.set(url, why.trim())
    const [, repository] = /^E: The repository '(\S+) .*' does not have a Release file/.exec(line) ?? []
    if (repository !== undefined && !this.#failed.has(repository))
      this.#failed.set(repository, 'it has no Release file for this suite')
  }

  /** The failure as one of the archive, where apt has complained of that; else as it is. */
  explain(thrown: unknown): unknown {
    const [first] = this.#failed
    if (first === undefined) return thrown
    const { what } = asImagebuildError(thrown)
    const [url, why] = first
    return new ImagebuildError({
      code: 'unreachable',
      what: `${what}: ${url} cannot be fetched`,
      why,
      next: `check the network of this machine (curl -I ${url}) and its proxy (http_proxy, or Acquire::http::Proxy of apt), or name another \`mirror\` in the source`,
      cause: thrown,
    })
  }
}
