/**
 * What time it is for Proxmox, by the `Date` of its answers (RFC 9110, section 6.6.1: whole seconds). Whatever is written
 * with a time at which it is over, and judged by another runner, is written and judged by this clock: those of two
 * runners may be minutes apart.
 */
export class ServerClock {
  /** milliseconds since 1970 by the server, and of this process's monotonic clock at that moment */
  #heard: { server: number; here: number } | undefined

  /** An answer has come, with this `Date`. */
  heard(date: string | undefined): void {
    const server = Date.parse(date ?? '')
    if (!Number.isNaN(server)) this.#heard = { server, here: performance.now() }
  }

  /** Unix seconds at this moment; undefined where no answer had a `Date`. */
  seconds(): number | undefined {
    if (this.#heard === undefined) return undefined
    const { server, here } = this.#heard
    return (server + performance.now() - here) / 1000
  }

  /** This moment; by the clock of this machine where the server tells no time. */
  date(): Date {
    return new Date((this.seconds() ?? Date.now() / 1000) * 1000)
  }

  /** Unix seconds, rounded up, at which what is written now is over. */
  after(seconds: number): number {
    return Math.ceil(this.date().getTime() / 1000) + seconds
  }

  /** Whether that time is over; where the server tells no time, nobody can say so, and it is not. */
  isOver(expires: number | undefined): boolean {
    const now = this.seconds()
    return expires !== undefined && now !== undefined && expires < now
  }
}
