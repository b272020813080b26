import { isOwnPool, isOwnVmid, isOwnVolume, type Own, ownPool, ownRole, ownUser, taskId } from './own.ts'

type Asked = Record<string, unknown>

/** Proxmox gives no guest a lower one, so a test may ask for it and be refused. */
const LOWEST_VMID = 100
const HARMLESS = /^\/(?:version|cluster\/nextid|access\/(?:vnc)?ticket)$/

interface Rule {
  path: RegExp
  /** gets what the groups of `path` have matched, and the parameters */
  isOwn(own: Own, groups: readonly string[], asked: Asked): boolean
}

const TAG_RULES = new Set(['registered-tags', 'user-tag-access'])

/** The cluster's options that are set, or taken off. */
const optionsIn = ({ delete: removed, ...set }: Asked): string[] => [
  ...Object.keys(set),
  ...(removed === undefined ? [] : String(removed).split(/[,;\s]+/)),
]

const inPool = (own: Own, asked: Asked) => isOwnPool(own, String(asked.pool))
const mayCreate = (own: Own, vmid: unknown, asked: Asked) =>
  vmid === undefined || Number(vmid) < LOWEST_VMID || (isOwnVmid(own, Number(vmid)) && inPool(own, asked))

/** All that the suite may write to, and on which terms. */
const RULES: readonly Rule[] = [
  { path: HARMLESS, isOwn: () => true },
  {
    path: /^\/nodes\/[^/]+\/(?:qemu|lxc)$/,
    isOwn: (own, _, asked) => mayCreate(own, asked.vmid, asked),
  },
  {
    path: /^\/nodes\/[^/]+\/(?:qemu|lxc)\/(\d+)(?:\/.*)?$/,
    isOwn: (own, [vmid], asked) => isOwnVmid(own, Number(vmid)) && mayCreate(own, asked.newid, asked),
  },
  {
    path: /^\/nodes\/[^/]+\/vzdump$/,
    isOwn: (own, _, asked) => isOwnVmid(own, Number(asked.vmid)),
  },
  {
    path: /^\/nodes\/[^/]+\/tasks\/(.+)$/,
    isOwn: (own, [upid = '']) => isOwnVmid(own, Number(taskId(upid))),
  },
  {
    path: /^\/nodes\/[^/]+\/storage\/[^/]+\/(?:upload|download-url)$/,
    isOwn: ({ namespace }, _, { filename }) =>
      filename === undefined || String(filename).startsWith(`${namespace}-`),
  },
  {
    path: /^\/nodes\/[^/]+\/storage\/[^/]+\/content\/(.+)$/,
    isOwn: (own, [volid = '']) => isOwnVolume(own, volid),
  },
  {
    path: /^\/nodes\/[^/]+\/aplinfo$/,
    isOwn: ({ namespace }, _, { template }) => String(template).startsWith(`${namespace}-`),
  },
  { path: /^\/pools(?:\/(.+))?$/, isOwn: (own, [id], asked) => isOwnPool(own, id ?? String(asked.poolid)) },
  {
    path: /^\/access\/users(?:\/([^/]+))?(?:\/token\/[^/]+)?$/,
    isOwn: (own, [userid], asked) => (userid ?? asked.userid) === ownUser(own),
  },
  { path: /^\/access\/acl$/, isOwn: (own, _, { users }) => users === ownUser(own) },
  {
    path: /^\/access\/roles(?:\/([^/]+))?$/,
    isOwn: (own, [roleid], asked) => (roleid ?? asked.roleid) === ownRole(own),
  },
  {
    path: /^\/cluster\/options$/,
    isOwn: ({ tagRules }, _, asked) =>
      tagRules === true && optionsIn(asked).every((name) => TAG_RULES.has(name)),
  },
]

/**
 * Lets nothing leave that would write to what is not the suite's own: a mistake in a test must not cost anybody a guest.
 * @throws an Error that names the request
 */
export function assertOwn(own: Own, method: string, target: string, body?: string | Buffer): void {
  if (method === 'GET') return
  const [path, asked] = readAsked(target, body)
  for (const { path: pattern, isOwn } of RULES) {
    const [found, ...groups] = pattern.exec(path) ?? []
    if (found !== undefined && isOwn(own, groups, asked)) return
  }
  const { first, last } = own.vmids
  const named = ['vmid', 'newid', 'pool', 'filename', 'template']
    .filter((name) => asked[name] !== undefined)
    .map((name) => ` ${name}=${asked[name]}`)
  throw new Error(
    `${method} ${path}${named.join('')} would write to what is not the suite's own: VMIDs ${first} to ${last} in the pool ${ownPool(own)}, and files, pools and a user that are called ${own.namespace}`,
  )
}

/** A request's path and its parameters, wherever they stand. */
function readAsked(target: string, body: string | Buffer | undefined): [path: string, asked: Asked] {
  const { pathname, searchParams } = new URL(target, 'https://server')
  return [decodeURIComponent(pathname), { ...Object.fromEntries(searchParams), ...readBody(body) }]
}

/** A form, JSON, or the head of an upload with the name of its file. */
function readBody(body: string | Buffer = ''): Asked {
  const text = String(typeof body === 'string' ? body : body.subarray(0, 2000))
  const filename = /; filename="([^"]*)"/.exec(text)?.[1]
  if (filename !== undefined) return { filename }
  return text.startsWith('{') ? JSON.parse(text) : Object.fromEntries(new URLSearchParams(text))
}
