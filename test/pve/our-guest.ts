import type { GuestKind } from '../../src/pve/guest-ref.ts'
import {
  fromTags,
  type Marks,
  type Note,
  type Owner,
  renderNote,
  type State,
  toTags,
} from '../../src/pve/marks.ts'
import type { Template } from '../../src/pve/templates.ts'
import { type Config, type MemoryGuest, type MemoryProxmox, SOMEBODY, soon } from './memory-proxmox.ts'

/** What is not as it usually is. */
export interface More extends Partial<Marks> {
  kind?: GuestKind
  node?: string
  run?: string
  owner?: Owner
  /** more of the note; false: the guest has none */
  note?: Partial<Note> | false
  /** tags that are not ours */
  tags?: readonly string[]
  config?: Config
}

/**
 * A guest of ours, as a run leaves it: of the image web in homelab. Where its state says so it is a template, has a disk
 * and a version; else it is temporary, has an expiry, and runs unless it is a claim.
 */
export function putOurs(pve: MemoryProxmox, vmid: number, state: State, more: More = {}): MemoryGuest {
  const {
    kind = 'vm',
    node = 'pve',
    run = `run-${vmid}`,
    owner = SOMEBODY,
    tags,
    config,
    note,
    ...rest
  } = more
  const isTemplate = ['candidate', 'current', 'previous', 'retired'].includes(state)
  const usual = isTemplate ? { version: `20260101.${vmid}` } : { expires: soon() }
  const marks: Marks = { vmid, namespace: 'homelab', image: 'web', state, ...usual, ...rest }
  const { namespace, image, version, expires, digest } = marks
  const name = `${image}-${version ?? vmid}`
  const full: Note = {
    ...{ schema: 1, vmid, namespace, image, kind, tool: '0', run },
    ...(version !== undefined && { version }),
    ...(digest !== undefined && { digest }),
    ...(!isTemplate && { owner, ...(expires !== undefined && { expires }) }),
    ...note,
  }
  const own = {
    ...(kind === 'vm' ? { name } : { hostname: name }),
    ...(isTemplate && { template: 1, ...diskOf(kind, vmid) }),
    tags: toTags(marks, tags),
    ...(note !== false && { description: renderNote(full, `About ${version ?? vmid}`) }),
  }
  const status = isTemplate || state === 'claim' ? 'stopped' : 'running'
  return pve.put(vmid, { ...own, ...config }, { kind, node, status })
}

/** A template with a tag that its definition asks for, as our own lists have it. */
export function putTemplate(
  pve: MemoryProxmox,
  vmid: number,
  state: State,
  version: string,
  more: More = {},
): Template {
  const { kind, node, config } = putOurs(pve, vmid, state, { version, tags: ['prod'], ...more })
  const marks = fromTags(vmid, String(config.tags)) as Marks
  return { kind, node, vmid, name: String(config.name ?? config.hostname), marks }
}

function diskOf(kind: GuestKind, vmid: number): Config {
  return kind === 'vm'
    ? {
        scsi0: `local:${vmid}/base-${vmid}-disk-0.qcow2,size=3G`,
        net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0',
      }
    : {
        rootfs: `local:${vmid}/base-${vmid}-disk-0.raw,size=3G`,
        net0: 'name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01',
      }
}
