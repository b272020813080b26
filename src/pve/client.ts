import { asOfNow } from '../core/pauses.ts'
import { orAbort } from '../core/scope.ts'
import { createApi, type PveApi } from './api.ts'
import { type GuestConsole, type NoConsole, openConsole } from './console.ts'
import { Engine, FIRST_REQUEST } from './engine.ts'
import type { GuestRef } from './guest-ref.ts'
import { type MissingPrivilege, missingPrivileges, type Need, requirePrivileges } from './permissions.ts'
import type { ServerClock } from './server-clock.ts'
import type { Credentials } from './session.ts'
import { type TaskResult, type WaitOptions, waitTask } from './tasks.ts'
import type { TlsTrust } from './tls.ts'
import { type Upload, type UploadOptions, upload } from './upload.ts'
import { VmidReservations } from './vmids.ts'

export interface PveConnection {
  /** `https://host:8006`; 8006 where no port is named */
  endpoint: string
  auth: Credentials
  tls: TlsTrust
  /** ends every call of this connection; calls that must outlive it (cleaning up) go through `withSignal` */
  signal: AbortSignal
  /** aborts when there is no Proxmox any more: also cleaning up asks for nothing then, and fails with its reason */
  ended?: AbortSignal
  /** seconds for one request, 60 by default; uploads and tasks have their own measure */
  requestSeconds?: number
}

/** One Proxmox VE, or the lab: nobody can tell. */
export interface Pve extends AsyncDisposable {
  /** all paths of the API, typed; each call repeats itself where that is harmless, and throws PveError */
  readonly api: PveApi
  readonly version: PveVersion
  readonly endpoint: string
  readonly kind: 'token' | 'ticket'
  /** `user@realm`, or `user@realm!tokenid` */
  readonly user: string
  /** state-changing requests so far, of all views of this connection; logins do not count */
  readonly writes: number
  /** of all views of this connection */
  readonly vmids: VmidReservations
  /** what time it is for the server */
  readonly clock: ServerClock
  /** the same connection under another signal; disposing a view does nothing */
  withSignal(signal: AbortSignal): Pve
  /** the same connection, whose calls wait for this before they change anything; what it throws, they throw */
  withGate(gate: () => Promise<void>): Pve
  /** streams a file to a storage; gives a UPID, and whether it worked shows only in that task */
  upload(
    node: string,
    storage: string,
    file: Upload,
    options?: Omit<UploadOptions, 'signal'> & Partial<Pick<UploadOptions, 'signal'>>,
  ): Promise<string>
  /** @throws PveTaskError */
  waitTask(
    upid: string,
    options: Omit<WaitOptions, 'signal'> & Partial<Pick<WaitOptions, 'signal'>>,
  ): Promise<TaskResult>
  missingPrivileges(needs: readonly Need[]): Promise<MissingPrivilege[]>
  /** @throws ImagebuildError `permission_denied` that lists all that is missing */
  requirePrivileges(needs: readonly Need[]): Promise<void>
  /** the console of a running guest, of a VM the serial one; or why there is none */
  openConsole(guest: GuestRef): Promise<GuestConsole | NoConsole>
}

export interface PveVersion {
  major: number
  minor: number
  /** as Proxmox says it: `8.4.21` */
  text: string
}

/**
 * Connects, and proves with one request that the endpoint can be reached, is who it must be, and accepts the
 * credentials.
 * @throws ImagebuildError `unreachable`, `permission_denied`, or `definition_invalid` for settings that make no sense
 */
export async function connect(connection: PveConnection): Promise<Pve> {
  const engine = new Engine(connection)
  try {
    const { signal } = connection
    const { data } = await engine.request('GET', '/version', {}, { signal, ...FIRST_REQUEST })
    const text = String((data as { version: unknown }).version)
    const [major = 0, minor = 0] = text.split(/[.-]/).map(Number)
    const shared = { engine, version: { major, minor, text }, vmids: new VmidReservations() }
    const close = () => engine[Symbol.asyncDispose]()
    return view(shared, { signal, gate: async () => {}, close })
  } catch (error) {
    await engine[Symbol.asyncDispose]()
    throw error
  }
}

/** What all views of one connection have in common. */
type Shared = Pick<Pve, 'version' | 'vmids'> & { engine: Engine }

interface View {
  signal: AbortSignal
  /** what is waited for before anything is changed */
  gate: () => Promise<void>
  close: () => Promise<void>
}

function view(shared: Shared, { signal, gate, close }: View): Pve {
  const { engine, version, vmids } = shared
  const open = (until: AbortSignal) => orAbort(gate(), until)
  const another = (change: Partial<View>) => view(shared, { signal, gate, close: async () => {}, ...change })
  return {
    api: createApi(async (method, path, params) => {
      if (method !== 'GET') await open(signal)
      const ask = () => engine.request(method, path, params, { signal })
      const { data } = await (method === 'GET' ? asOfNow(ask) : ask())
      return data
    }),
    version,
    vmids,
    endpoint: engine.origin,
    kind: engine.session.kind,
    user: engine.session.user,
    get writes() {
      return engine.writes
    },
    clock: engine.clock,
    withSignal: (other) => another({ signal: other }),
    withGate: (further) =>
      another({
        gate: async () => {
          await gate()
          await further()
        },
      }),
    async upload(node, storage, file, options) {
      await open(options?.signal ?? signal)
      return await upload(engine, node, storage, file, { signal, ...options })
    },
    waitTask: (upid, options) => waitTask(engine, upid, { signal, ...options }),
    missingPrivileges: (needs) => missingPrivileges(engine, needs, signal),
    requirePrivileges: (needs) => requirePrivileges(engine, needs, signal),
    openConsole: (guest) => openConsole(engine, guest, { signal }),
    [Symbol.asyncDispose]: close,
  }
}
