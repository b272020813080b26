import { Client, certificateOf } from './client.ts'
import type { Own } from './own.ts'
import type { Reached } from './target.ts'

/** A Proxmox that somebody lends: pve.md says what each variable is for. */

const get = (name: string): string | undefined => process.env[`IMAGEBUILD_TEST_PVE_${name}`] || undefined

function need(name: string): string {
  const value = get(name)
  if (value === undefined)
    throw new Error(`IMAGEBUILD_TEST_PVE_${name} must be set together with IMAGEBUILD_TEST_PVE_URL`)
  return value
}

const LEAST_VMIDS = 100

export function suiteOwn(): Own {
  const vmids = get('VMIDS') ?? '990100-990399'
  const [, first, last] = /^(\d+)-(\d+)$/.exec(vmids) ?? []
  if (first === undefined || last === undefined || Number(last) - Number(first) + 1 < LEAST_VMIDS)
    throw new Error(
      `IMAGEBUILD_TEST_PVE_VMIDS must be a range of ${LEAST_VMIDS} or more, such as 990100-990399, not ${vmids}`,
    )
  const namespace = get('NAMESPACE') ?? 'imagebuild-contract'
  if (!/^[a-z][a-z0-9-]{2,30}$/.test(namespace))
    throw new Error(`IMAGEBUILD_TEST_PVE_NAMESPACE must be a name in lower case, not ${namespace}`)
  const tagRules = get('TAG_RULES') === '1'
  return { namespace, vmids: { first: Number(first), last: Number(last) }, tagRules }
}

/** `undefined`: none is lent. */
export async function realServer(): Promise<Reached | undefined> {
  const url = get('URL')
  if (url === undefined) return undefined
  const fingerprint = need('FINGERPRINT')
  const own = suiteOwn()
  const client = new Client(url, fingerprint, { token: need('TOKEN') }, own)
  const root = await logIn(client)
  const [node, files, block] = [get('NODE') ?? 'pve', get('STORAGE') ?? 'local', get('BLOCK_STORAGE')]
  const [small, other, shared] = [get('SMALL_STORAGE'), get('OTHER_NODE'), get('SHARED_STORAGE')]
  return {
    ...{ own, client, root, node, files, block, small, other, shared },
    nodes: [node, ...(other === undefined ? [] : [other])],
    storages: [files, block, small, shared].filter((storage) => storage !== undefined),
    bridge: get('BRIDGE') ?? 'vmbr0',
    linuxBridge: undefined,
    appliances: undefined,
    web: get('WEB'),
    consoles: get('CONSOLES') !== '0',
    processes: get('PROCESSES') === '1',
    isProcessOf: (vmid, { command }) => command.includes(`/${vmid}/`),
    lab: false,
    certificate: await certificateOf(url, fingerprint),
    async close() {
      await Promise.all([client.close(), root?.close()])
    },
  }
}

async function logIn(client: Client): Promise<Client | undefined> {
  const password = get('ROOT_PASSWORD')
  if (password === undefined) return undefined
  const login = await client.as({}).post('/access/ticket', { username: 'root@pam', password })
  if (login.status !== 200) throw new Error(`root@pam cannot log in: ${login.reason}`)
  const { ticket, CSRFPreventionToken: csrf } = login.body.data as Record<string, string>
  return client.as({ ...(ticket !== undefined && { ticket }), ...(csrf !== undefined && { csrf }) })
}
