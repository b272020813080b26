import { type Proxmox, proxmoxApi } from 'proxmox-api'
import type {
  AgentCards,
  ApplianceStanza,
  ClusterGuest,
  ContainerCards,
  FileRead,
  GuestConfig,
  GuestStatus,
  ListedGuest,
  MachineType,
  NodeRow,
  NodeStatus,
  StorageRow,
  StorageStatus,
  StoredDisk,
  StoredFile,
  TaskLine,
  TaskRow,
  TaskStatus,
  VolumeInfo,
} from './answers.ts'

/**
 * The typed paths of the Proxmox API: `api.nodes.$('pve').qemu.$(100).config.$get()`.
 * The paths and parameters are proxmox-api's, the answers (answers.ts) and the requests (engine.ts) are ours. UPIDs, and the
 * null of calls that have done their work when they answer, the library has right.
 */

type NodeModel = ReturnType<Proxmox.Api['nodes']['$']>
type QemuModel = ReturnType<NodeModel['qemu']['$']>
type LxcModel = ReturnType<NodeModel['lxc']['$']>
type StorageModel = ReturnType<NodeModel['storage']['$']>
type VolumeModel = ReturnType<StorageModel['content']['$']>
type TaskModel = ReturnType<NodeModel['tasks']['$']>

/** A path with other members than the library gives it. */
type With<Path, Members> = Omit<Path, keyof Members> & Members

/** A path whose `$get` takes what the library says, and answers this. */
type Gives<Path extends { $get: (...parameters: never) => unknown }, Answer> = With<
  Path,
  { $get: (...parameters: Parameters<Path['$get']>) => Promise<Answer> }
>

/** What imagebuild keeps as files: seeds, disk images, containers' archives. The library is older than `import` (Proxmox VE 8.3). */
export type FileContent = 'iso' | 'import' | 'vztmpl'

type DownloadUrl = StorageModel['download-url']
type DownloadParams = With<Parameters<DownloadUrl['$post']>[0], { content: FileContent }>

interface VolumeApi extends Omit<VolumeModel, '$get' | '$delete'> {
  $get(): Promise<VolumeInfo>
  /** @param parameters seconds that Proxmox waits for the deletion; one that takes longer goes on as a task */
  $delete(parameters?: { delay?: number }): Promise<string | null>
}

interface ContentApi extends Omit<StorageModel['content'], '$get' | '$'> {
  $get(query: { content: FileContent }): Promise<StoredFile[]>
  $get(query?: { vmid?: number }): Promise<StoredDisk[]>
  $(volid: string): VolumeApi
}

/** Uploads are multipart and streamed, which a call with parameters cannot be: see upload.ts. */
interface StorageApi extends Omit<StorageModel, 'content' | 'download-url' | 'status' | 'upload'> {
  content: ContentApi
  'download-url': { $post(parameters: DownloadParams): Promise<string> }
  status: Gives<StorageModel['status'], StorageStatus>
}

/** What both kinds of guest have alike. The library lists the names of disks; here they come out of a configuration. */
interface GuestAnswers<Model extends QemuModel | LxcModel> {
  config: Gives<Model['config'], GuestConfig>
  resize: { $put(parameters: { disk: string; size: string }): Promise<string> }
  status: With<Model['status'], { current: Gives<Model['status']['current'], GuestStatus> }>
}

type AgentApi = With<
  QemuModel['agent'],
  {
    'file-read': Gives<QemuModel['agent']['file-read'], FileRead>
    'network-get-interfaces': Gives<QemuModel['agent']['network-get-interfaces'], AgentCards>
  }
>

type QemuApi = With<QemuModel, GuestAnswers<QemuModel> & { agent: AgentApi }>

type LxcApi = With<
  LxcModel,
  GuestAnswers<LxcModel> & { interfaces: Gives<LxcModel['interfaces'], ContainerCards> }
>

interface TaskApi extends Omit<TaskModel, 'log' | 'status'> {
  log: Gives<TaskModel['log'], TaskLine[]>
  status: Gives<TaskModel['status'], TaskStatus>
}

type Capabilities = NodeModel['capabilities']
type QemuCapabilities = With<
  Capabilities['qemu'],
  { machines: Gives<Capabilities['qemu']['machines'], MachineType[]> }
>

interface NodeMembers {
  aplinfo: Gives<NodeModel['aplinfo'], ApplianceStanza[]>
  capabilities: With<Capabilities, { qemu: QemuCapabilities }>
  lxc: With<Gives<NodeModel['lxc'], ListedGuest[]>, { $(vmid: number): LxcApi }>
  qemu: With<Gives<NodeModel['qemu'], ListedGuest[]>, { $(vmid: number): QemuApi }>
  status: Gives<NodeModel['status'], NodeStatus>
  storage: With<Gives<NodeModel['storage'], StorageRow[]>, { $(storage: string): StorageApi }>
  tasks: With<Gives<NodeModel['tasks'], TaskRow[]>, { $(upid: string): TaskApi }>
}

interface Members {
  cluster: With<
    Proxmox.Api['cluster'],
    { resources: { $get(query: { type: 'vm' }): Promise<ClusterGuest[]> } }
  >
  nodes: With<Gives<Proxmox.Api['nodes'], NodeRow[]>, { $(node: string): With<NodeModel, NodeMembers> }>
}

export type PveApi = With<Proxmox.Api, Members>

/** What carries out one call: the method in capitals, the path below /api2/json. */
export type Call = (method: string, path: string, params: Record<string, unknown>) => Promise<unknown>

/** proxmox-api puts this before each path, and so do we: it must not be there twice. */
const PREFIX = '/api2/json'

export function createApi(call: Call): PveApi {
  // The one place where what comes is called what it should be: nothing checks an answer at run time.
  return proxmoxApi({
    doRequest: (method, path, _template, params) =>
      call(method.toUpperCase(), path.slice(PREFIX.length), params ?? {}),
  }) as unknown as PveApi
}
