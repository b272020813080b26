import { setTimeout as delay } from 'node:timers/promises'
import { Client, type Fields } from '../contract/client.ts'
import { tinyArchive } from '../contract/tiny-archive.ts'

/** Another user of the same node: makes guests and removes them, on and on, and looks at the lists meanwhile. */
export interface Neighbour extends AsyncDisposable {
  /** what it has lived through so far */
  readonly seen: Readonly<Record<'guests made' | 'lists failed' | 'connections lost', number>>
}

interface NodeOf {
  endpoint: string
  fingerprint: string
  token: string
  node: string
}

type Kind = 'qemu' | 'lxc'
const ARCHIVE = 'neighbour_1_amd64.tar.zst'

/** `vmid`: the first of two that are its own */
export async function startNeighbour(lab: NodeOf, vmid: number): Promise<Neighbour> {
  const client = new Client(lab.endpoint, lab.fingerprint, { token: lab.token })
  const seen = { 'guests made': 0, 'lists failed': 0, 'connections lost': 0 }
  const over = new AbortController()
  const at = (path: string) => `/nodes/${lab.node}${path}`

  /** undefined where the connection was lost */
  const heard = <T>(call: Promise<T>): Promise<T | undefined> =>
    call.catch(() => {
      seen['connections lost'] += 1
      return undefined
    })

  /** What the calls and tasks say does not matter: what counts is whether the guest is there. */
  async function comeAndGo(kind: Kind, options: Fields): Promise<void> {
    const guest = at(`/${kind}/${options.vmid}`)
    const config = async () => await heard(client.get(`${guest}/config`))
    while (!over.signal.aborted) {
      await heard(client.post(at(`/${kind}`), options))
      await until(async () => {
        const now = await config()
        return now?.status === 200 && !('lock' in now.body.data)
      })
      const made = (await config())?.status === 200
      if (made) seen['guests made'] += 1
      await heard(client.delete(guest))
      await until(async () => (await config())?.status === 500)
    }
  }

  /** Or gives up: a call may never have been heard. */
  async function until(happened: () => Promise<boolean>): Promise<void> {
    for (let n = 0; n < 60 && !(await happened()); n += 1) await delay(200)
  }

  async function look(): Promise<void> {
    while (!over.signal.aborted) {
      for (const kind of ['qemu', 'lxc']) {
        const list = await heard(client.get(at(`/${kind}`)))
        if (list?.status === 500) seen['lists failed'] += 1
      }
      await delay(500)
    }
  }

  async function upload(): Promise<void> {
    const parts: Parameters<Client['upload']>[1] = [
      ['content', 'vztmpl'],
      ['filename', { name: ARCHIVE, data: await tinyArchive() }],
    ]
    while ((await heard(client.upload(at('/storage/local/upload'), parts)))?.status !== 200) await delay(200)
  }

  await upload()
  const work = Promise.all([
    look(),
    comeAndGo('qemu', { vmid, memory: 16 }),
    comeAndGo('lxc', {
      ...{ vmid: vmid + 1, ostemplate: `local:vztmpl/${ARCHIVE}`, rootfs: 'local:0.1' },
      ...{ ostype: 'unmanaged', memory: 64 },
    }),
  ])
  return {
    seen,
    async [Symbol.asyncDispose]() {
      over.abort()
      await work
      await client.close()
    },
  }
}
