/**
 * Until when a release gets security updates. The days are those of Debian's package distro-info-data (0.68), which both
 * distributions keep; `source` is the page on which they announce them.
 */
interface Release {
  /** as the catalog calls it, without `-minimal` */
  id: string
  suite: string
  name: string
  /** last day of the security updates that everybody gets from the distribution itself */
  regular: string
  /** last day of Debian's LTS: other people, and not all packages */
  lts?: string
  source: string
}

const DEBIAN = 'https://www.debian.org/releases/'
const UBUNTU = 'https://documentation.ubuntu.com/project/release-team/list-of-releases/'

/** The newest of each distribution comes last. */
const RELEASES: readonly Release[] = [
  {
    ...{ id: 'debian/12', suite: 'bookworm', name: 'Debian 12' },
    ...{ regular: '2026-07-11', lts: '2028-06-30', source: DEBIAN },
  },
  {
    ...{ id: 'debian/13', suite: 'trixie', name: 'Debian 13' },
    ...{ regular: '2028-08-09', lts: '2030-06-30', source: DEBIAN },
  },
  {
    ...{ id: 'ubuntu/22.04', suite: 'jammy', name: 'Ubuntu 22.04' },
    ...{ regular: '2027-06-01', source: UBUNTU },
  },
  {
    ...{ id: 'ubuntu/24.04', suite: 'noble', name: 'Ubuntu 24.04' },
    ...{ regular: '2029-05-31', source: UBUNTU },
  },
  {
    ...{ id: 'ubuntu/26.04', suite: 'resolute', name: 'Ubuntu 26.04' },
    ...{ regular: '2031-05-29', source: UBUNTU },
  },
]

/** From so many months before the end on: time enough to build on another release, and to move machines there. */
export const MONTHS_AHEAD = 6

/** What a person should know of a release that they build on. */
export interface EndOfLife {
  message: string
  hint: string
}

/**
 * @param name `ubuntu/24.04-minimal` of the catalog, a suite (`noble`), or one of Proxmox's appliances
 *   (`debian-12-standard`); any other name is not known here
 * @returns undefined where nothing ends soon
 */
export function endOfLife(name: string, today: Date): EndOfLife | undefined {
  const release = find(name)
  if (release === undefined) return undefined
  const message = messageFor(release, today)
  if (message === undefined) return undefined
  const [distribution] = release.id.split('/')
  const newest = RELEASES.findLast(({ id }) => id.startsWith(`${distribution}/`))
  const instead = newest === release ? '' : `${newest?.name} is the newest here; `
  return { message, hint: `${instead}dates: ${release.source}` }
}

function find(name: string): Release | undefined {
  const [, distribution, version] = /^(debian|ubuntu)[/-]([\d.]*\d)(?![\d.])/.exec(name) ?? []
  const id = `${distribution}/${version}`
  return RELEASES.find((release) => release.suite === name || release.id === id)
}

function messageFor({ name, regular, lts }: Release, today: Date): string | undefined {
  const day = today.toISOString().slice(0, 10)
  if (day < monthsBefore(regular, MONTHS_AHEAD)) return undefined
  if (lts === undefined) {
    return day <= regular
      ? `standard support of ${name} ends on ${regular}; security updates need Ubuntu Pro from then on`
      : `standard support of ${name} ended on ${regular}: security updates need Ubuntu Pro`
  }
  if (day <= regular)
    return `regular security support of ${name} ends on ${regular}; LTS goes on until ${lts}, for fewer packages`
  return day <= lts
    ? `regular security support of ${name} ended on ${regular}; LTS goes on until ${lts}, for fewer packages`
    : `LTS of ${name} ended on ${lts}: it gets no security updates any more`
}

function monthsBefore(day: string, months: number): string {
  const date = new Date(`${day}T00:00:00Z`)
  date.setUTCMonth(date.getUTCMonth() - months)
  return date.toISOString().slice(0, 10)
}
