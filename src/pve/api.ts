import { type Proxmox, proxmoxApi } from 'proxmox-api'

/**
 * The typed paths of the Proxmox API: `api.nodes.$('pve').qemu.$(100).config.$get()`.
 * The types are proxmox-api's, the requests are ours (engine.ts). What they say of answers is Proxmox's own
 * schema, which calls 0 and 1 booleans: compare by truth, not by `===`.
 */

type NodeModel = ReturnType<Proxmox.Api['nodes']['$']>
type StorageModel = ReturnType<NodeModel['storage']['$']>

/** What can be put on a storage. proxmox-api's types are older than `import` (Proxmox VE 8.3). */
export type UploadContent = 'iso' | 'vztmpl' | 'import'

type DownloadUrl = StorageModel['download-url']
type DownloadParams = Omit<Parameters<DownloadUrl['$post']>[0], 'content'> & { content: UploadContent }

/** Uploads are multipart and streamed, which a call with parameters cannot be: see upload.ts. */
export interface StorageApi extends Omit<StorageModel, 'download-url' | 'upload'> {
  'download-url': { $post(params: DownloadParams): Promise<string> }
}

export interface NodeApi extends Omit<NodeModel, 'storage'> {
  storage: Omit<NodeModel['storage'], '$'> & { $(storage: string): StorageApi }
}

export interface PveApi extends Omit<Proxmox.Api, 'nodes'> {
  nodes: Omit<Proxmox.Api['nodes'], '$'> & { $(node: string): NodeApi }
}

/** What carries out one call: the method in capitals, the path below /api2/json. */
export type Call = (method: string, path: string, params: Record<string, unknown>) => Promise<unknown>

/** proxmox-api puts this before each path, and so do we: it must not be there twice. */
const PREFIX = '/api2/json'

export function createApi(call: Call): PveApi {
  return proxmoxApi({
    doRequest: (method, path, _template, params) =>
      call(method.toUpperCase(), path.slice(PREFIX.length), params ?? {}),
  }) as unknown as PveApi
}
