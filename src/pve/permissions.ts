import { ImagebuildError } from '../core/errors.ts'
import type { Engine } from './engine.ts'

/** A privilege by its Proxmox name, or several of which any one will do. */
export type Privilege = string | readonly string[]

/** What a build will need, and for what. */
export interface Need {
  /** ACL path; of several any one will do: a new guest's `/vms/100`, or the `/pool/images` it is created in */
  path: string | readonly [string, ...string[]]
  privileges: readonly Privilege[]
  /** completes "needed to …" */
  why: string
}

export interface MissingPrivilege {
  /** the first of the paths */
  path: string
  /** one name, or alternatives joined by ` or ` */
  privilege: string
  why: string
}

type Granted = Readonly<Record<string, Readonly<Record<string, number>>>>

/**
 * Guest agent calls: Proxmox VE 9 split VM.Monitor up. `audit` is asking (ping, network-get-interfaces),
 * `file-read` reading the guest's files, `unrestricted` running commands.
 */
export function agentPrivilege(
  version: { major: number },
  use: 'audit' | 'file-read' | 'unrestricted',
): Privilege {
  if (version.major < 9) return 'VM.Monitor'
  if (use === 'unrestricted') return 'VM.GuestAgent.Unrestricted'
  return [use === 'audit' ? 'VM.GuestAgent.Audit' : 'VM.GuestAgent.FileRead', 'VM.GuestAgent.Unrestricted']
}

/**
 * What of `needs` is not granted. Proxmox itself works the ACLs out, path by path: groups, pools, inheritance
 * and the separation of a token's privileges from its user's are all in its answer.
 */
export async function missingPrivileges(
  engine: Engine,
  needs: readonly Need[],
  signal: AbortSignal,
): Promise<MissingPrivilege[]> {
  return missingOf(needs, await privilegesOn(engine, needs, signal))
}

/** The privileges on each path; `everything` for the superuser's ticket, which passes every check. A token of root may be limited. */
type PrivilegesOn = ReadonlyMap<string, ReadonlySet<string>> | 'everything'

async function privilegesOn(
  engine: Engine,
  needs: readonly Need[],
  signal: AbortSignal,
): Promise<PrivilegesOn> {
  if (engine.session.kind === 'ticket' && engine.session.user === 'root@pam') return 'everything'
  const paths = [...new Set(needs.flatMap((need) => need.path))]
  return new Map(
    await Promise.all(
      paths.map(async (path) => {
        const { data } = await engine.request('GET', '/access/permissions', { path }, { signal })
        return [path, effective(data as Granted, path)] as const
      }),
    ),
  )
}

function isGranted(granted: PrivilegesOn, paths: readonly string[], privilege: Privilege): boolean {
  if (granted === 'everything') return true
  return paths.some((path) => [privilege].flat().some((name) => granted.get(path)?.has(name)))
}

function missingOf(needs: readonly Need[], granted: PrivilegesOn): MissingPrivilege[] {
  return needs.flatMap(({ path, privileges, why }) => {
    const paths = [path].flat()
    return privileges
      .filter((privilege) => !isGranted(granted, paths, privilege))
      .map((privilege) => ({ path: paths[0] as string, privilege: [privilege].flat().join(' or '), why }))
  })
}

/**
 * The privileges at `path`. An answer about one path names it; one about the whole tree names only paths with
 * an ACL, and what lies below inherits from the nearest of them whatever has the propagate bit.
 */
export function effective(granted: Granted, path: string): ReadonlySet<string> {
  const exact = granted[path]
  if (exact) return new Set(Object.keys(exact))
  for (let above = path; above !== '/'; ) {
    above = above.slice(0, above.lastIndexOf('/')) || '/'
    const inherited = granted[above]
    if (inherited) return new Set(Object.keys(inherited).filter((name) => inherited[name]))
  }
  return new Set()
}

/** @throws ImagebuildError `permission_denied` (exit 77) that lists all that is missing and how to grant it */
export async function requirePrivileges(
  engine: Engine,
  needs: readonly Need[],
  signal: AbortSignal,
): Promise<void> {
  const granted = await privilegesOn(engine, needs, signal)
  const missing = missingOf(needs, granted)
  if (missing.length > 0)
    throw permissionError(engine.session.user, withoutAlternatives(needs, granted), missing)
}

/** What is to be granted on the first path of each need: what another of its paths grants need not be there, too. */
function withoutAlternatives(needs: readonly Need[], granted: PrivilegesOn): Need[] {
  return needs.map((need) => {
    const others = [need.path].flat().slice(1)
    return { ...need, privileges: need.privileges.filter((one) => !isGranted(granted, others, one)) }
  })
}

/** One error for all that is missing. */
export function permissionError(
  user: string,
  needs: readonly Need[],
  missing: readonly MissingPrivilege[],
  cause?: unknown,
): ImagebuildError {
  return new ImagebuildError({
    code: 'permission_denied',
    what: `${user} lacks ${missing.length === 1 ? 'a privilege' : `${missing.length} privileges`} on Proxmox`,
    why: missing.map(({ path, privilege, why }) => `${path}: ${privilege} (to ${why})`).join('\n'),
    next: `on a node, as root:\n${grants(user, needs, missing).join('\n')}`,
    cause,
  })
}

/**
 * An ACL on a path replaces what its user inherits there. So each role holds all that is needed on its path,
 * not only what is missing now.
 */
function grants(user: string, needs: readonly Need[], missing: readonly MissingPrivilege[]): string[] {
  const owner = user.split('!')[0]
  const who = user === owner ? `--users '${owner}'` : `--users '${owner}' --tokens '${user}'`
  const byRole = new Map<string, { paths: Set<string>; privileges: Set<string> }>()
  const lacking = new Set(missing.map(({ path }) => path))
  for (const need of needs) {
    const path = [need.path].flat()[0] as string
    if (!lacking.has(path)) continue
    const kind = path.split('/')[1] || 'root'
    const role = `Imagebuild${kind[0]?.toUpperCase()}${kind.slice(1)}`
    const entry = byRole.get(role) ?? { paths: new Set(), privileges: new Set() }
    byRole.set(role, entry)
    entry.paths.add(path)
    for (const privilege of need.privileges) entry.privileges.add([privilege].flat()[0] as string)
  }
  return [...byRole].flatMap(([role, { paths, privileges }]) => [
    `pveum role add ${role} --privs '${[...privileges].sort().join(',')}'   # where it exists: pveum role modify ${role} --append 1 --privs …`,
    ...[...paths].map((path) => `pveum acl modify ${path} --roles ${role} ${who}`),
  ])
}
