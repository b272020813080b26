import type { SourceLocation } from '../core/errors.ts'
import type { SecretReference } from '../core/secrets.ts'
import type { Architecture, Hardware, ImageFile } from './schema.ts'

/**
 * A definition after loading: all files read, every part with its place in the user's files. Nothing below
 * this line of the program looks at YAML again.
 */
export interface ImageSpec {
  name: string
  kind: 'vm'
  description?: string
  source: SourceSpec
  hardware: Hardware
  /** cloud-config fragments in merge order */
  cloudInit: Fragment[]
  layers: Layer[]
  template: ImageFile['template']
  build: ImageFile['build']
  /** the image.yaml it came from */
  where: SourceLocation
}

export type SourceSpec = { architecture: Architecture; where: SourceLocation } & (
  | { kind: 'release'; release: string; fallback: boolean }
  | { kind: 'url'; url: string; checksum: { algorithm: 'sha256' | 'sha512'; value: string }; format: string }
  | {
      kind: 'bootstrap'
      distribution: 'debian' | 'ubuntu'
      suite: string
      mirror?: string
      packages: string[]
    }
  | { kind: 'image'; image: string }
)

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
