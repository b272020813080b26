import type { SourceLocation } from '../core/errors.ts'
import type { SecretReference } from '../core/secrets.ts'
import type { Check } from './check.ts'
import type { Profile } from './hardening-schema.ts'
import type { ContainerFeatures, ContainerHardware, Hardware } from './hardware-schema.ts'
import type { LxcFile, VmFile } from './image-schema.ts'
import type { Architecture } from './source-schema.ts'

/**
 * A definition after loading: all files read, every part with its place in the user's files. Nothing below
 * this line of the program looks at YAML again.
 */
export type ImageSpec = VmSpec | LxcSpec

interface CommonSpec {
  name: string
  description?: string
  source: SourceSpec
  /** cloud-config fragments in merge order */
  cloudInit: Fragment[]
  layers: Layer[]
  ssh: SshSpec
  hardening: HardeningSpec
  checks: Check[]
  /** where its packages get newer, beyond the distribution's own suites: its own, then those of its ancestors */
  repositories: Repository[]
  build: VmFile['build']
  /** the image.yaml it came from */
  where: SourceLocation
}

export interface VmSpec extends CommonSpec {
  kind: 'vm'
  hardware: Hardware
  template: VmFile['template']
}

export interface LxcSpec extends CommonSpec {
  kind: 'lxc'
  hardware: ContainerHardware
  unprivileged: boolean
  features: ContainerFeatures
  template: LxcFile['template']
}

export type SourceSpec = { architecture: Architecture; where: SourceLocation } & (
  | { kind: 'release'; release: string; fallback: boolean }
  /** containers only: a name from Proxmox's appliance list, with or without version, or the full file name */
  | { kind: 'appliance'; appliance: string }
  | {
      kind: 'url'
      url: string
      checksum: { algorithm: 'sha256' | 'sha512'; value: string }
      /** `qcow2.xz` and the like for a disk, `tar.zst` and the like for a root file system */
      format: string
    }
  | {
      kind: 'bootstrap'
      distribution: 'debian' | 'ubuntu'
      suite: string
      mirror?: string
      packages: string[]
    }
  | { kind: 'image'; image: string }
)

/** A suite of packages that the definition vouches for. */
export interface Repository {
  /** without a slash at its end */
  url: string
  suite: string
  components: string[]
  /** binary OpenPGP public keys: one of them must have signed its index */
  keyring: Uint8Array
  isSecurity: boolean
  where: SourceLocation
}

export interface SshSpec {
  /** public key lines of user CAs; missing: the target's */
  ca?: string[]
  /** names in a certificate, by user; empty: the user's own name */
  principals: Record<string, string[]>
  /** a KRL, or public keys, one a line; where a definition has none, its parent's */
  revokedKeys?: Uint8Array
  where: SourceLocation
}

export interface HardeningSpec {
  profile: Profile
  /** the machine runs containers itself */
  containers: boolean
  postQuantum: boolean
  /** ids of items that are switched off, with the reason */
  except: Record<string, string>
  /** those of them that an ancestor has applied: what it did is in its image, and stays */
  inherited?: Record<string, { image: string; where: SourceLocation }>
  where: SourceLocation
}

export interface Fragment {
  name: string
  /** the parsed cloud-config document */
  config: Record<string, unknown>
  where: SourceLocation
}

export type Layer = {
  /** what progress and errors call it */
  name: string
  where: SourceLocation
  timeoutSeconds: number
} & (
  | { kind: 'packages'; install: string[]; remove: string[]; upgrade: boolean }
  | { kind: 'file'; path: string; content: Uint8Array; mode: string; owner: string; source?: string }
  | {
      kind: 'shell'
      /** the script's bytes; run by its own interpreter line, else by /bin/sh -eu */
      script: Uint8Array
      source?: string
      user: string
      env: Record<string, string>
      /** part of the environment that is secret: never in a digest */
      secrets: Record<string, SecretReference>
    }
  | { kind: 'reboot' }
)

/** Default seconds for one layer, where the definition says nothing. */
export const DEFAULT_LAYER_SECONDS = { packages: 1800, file: 300, shell: 1800, reboot: 600 } as const
