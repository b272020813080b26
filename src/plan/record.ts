import { isAbsolute, relative } from 'node:path'
import type { SourceLocation } from '../core/errors.ts'
import type { HardeningSpec, Layer } from '../definition/spec.ts'
import type { Note } from '../pve/marks.ts'
import { fingerprint } from '../ssh/host-key.ts'
import { canonicalJson, type Digest, digestBytes, digestOf, type Json } from './identity.ts'
import { digestOfChecks, type Plan, type PlannedLayer } from './plan.ts'

/**
 * What went into a template's digest, so that a later plan can say what is different. Schema 1 of `plan.json` in the
 * build folder: other versions of imagebuild read it. Secrets are references in a definition, and not even those are here.
 */
export interface PlanRecord {
  schema: 1
  image: string
  /** of the template; empty in a plan that was not carried out */
  version: string
  /** version of imagebuild */
  tool: string
  digest: Digest
  /** what the layers start from, exactly as it went into the digest */
  start: { [key: string]: Json | undefined }
  layers: RecordedLayer[]
  /** what the layers end in, exactly as it went into the digest */
  result: { [key: string]: Json | undefined }
  source: NonNullable<Note['source']>
  /** of an image that is built upon another of ours */
  parent?: { image: string; version: string; digest: string }
  /** names of the cloud-config fragments, in the order of `start.cloudInit` */
  fragments: string[]
  /** fingerprints of the user CAs */
  authorities: string[]
  hardening: Pick<HardeningSpec, 'profile' | 'containers' | 'postQuantum' | 'except'>
  /** hardening items that are done, with a digest of what is done */
  items: Record<string, Digest>
  /** digest of what clones are asked; no part of the image's digest */
  checks: Digest
}

export interface RecordedLayer extends Pick<PlannedLayer, 'digest' | 'identity' | 'by'> {
  name: string
  /** relative to the project */
  where: SourceLocation
  /** the definition's, as far as it is text and small: what a person would want to see changed */
  text?: string
}

/** Bytes of a script or file that a record repeats. */
const TEXT_BYTES = 32 * 1024

export interface RecordFacts {
  version: string
  tool: string
  source: NonNullable<Note['source']>
  /** folder of imagebuild.yaml: another checkout has other absolute paths */
  root: string
}

/** Pure: the same plan gives the same record on every machine. */
export function recordPlan(plan: Plan, { version, tool, source, root }: RecordFacts): PlanRecord {
  const { image, digest, start, result, certificates, items, checks } = plan
  const { profile, containers, postQuantum, except } = image.hardening
  return {
    schema: 1,
    image: image.name,
    version,
    tool,
    digest,
    start,
    layers: plan.layers.map((planned) => recordLayer(planned, root)),
    result,
    source,
    ...(image.source.kind === 'image' && {
      parent: { image: image.source.image, version: source.version, digest: source.identity },
    }),
    fragments: image.cloudInit.map(({ name }) => name),
    authorities: certificates.authorities.map((key) => fingerprint(key)),
    hardening: { profile, containers, postQuantum, except },
    items,
    checks: digestOfChecks(checks),
  }
}

function recordLayer({ layer, digest, identity, by }: PlannedLayer, root: string): RecordedLayer {
  const text = by === 'hardening' ? undefined : textOf(layer)
  return {
    name: layer.name,
    by,
    digest,
    identity,
    where: placeIn(root, layer.where),
    ...(text !== undefined && { text }),
  }
}

/** The same place for every checkout: relative to the project, where it lies in it. */
export function placeIn(root: string, { file, line, column }: SourceLocation): SourceLocation {
  const short = relative(root, file)
  return { file: short.startsWith('..') || isAbsolute(short) ? file : short, line, column }
}

/** A layer as lines that can be compared: what it says of itself, then the bytes of its script or file. */
function textOf(layer: Layer): string | undefined {
  switch (layer.kind) {
    case 'packages':
      return lines([
        ...(layer.upgrade ? ['upgrade'] : []),
        ...layer.install.map((name) => `install ${name}`),
        ...layer.remove.map((name) => `remove ${name}`),
      ])
    case 'file':
      return withBody(
        [`path ${layer.path}`, `mode ${layer.mode}`, `owner ${layer.owner}`],
        layer.content,
        isForAll(layer.mode),
      )
    case 'shell': {
      const env = Object.entries(layer.env).map(([name, value]) => `env ${name}=${value}`)
      const secrets = Object.keys(layer.secrets).map((name) => `secret ${name}`)
      return withBody([`user ${layer.user}`, ...env.sort(), ...secrets.sort()], layer.script)
    }
    case 'reboot':
      return undefined
  }
}

/** What not everybody in the guest may read, nobody shall read in a record: it may be a key. */
function isForAll(mode: string): boolean {
  return (Number.parseInt(mode, 8) & 0o004) !== 0
}

function withBody(head: readonly string[], body: Uint8Array, isShown = true): string {
  const text = isShown ? readable(body) : undefined
  return `${lines(head)}\n${text ?? `(${body.length} bytes, ${digestBytes(body)})\n`}`
}

function readable(bytes: Uint8Array): string | undefined {
  if (bytes.length > TEXT_BYTES || bytes.includes(0)) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return undefined
  }
}

function lines(all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join('')
}

/** Hex digits: enough to see that something is different, few enough for a note. */
const SHORT = 8

/** Bytes of it in a note: some 180 layers. */
const IN_NOTE_BYTES = 2048

/** What a template's note keeps of the record, for those who do not have it; undefined where it is too much for that. */
export function shortRecord({ start, layers, result }: PlanRecord): Note['made'] {
  // The source is in the note itself.
  const { source: _, ...rest } = { ...start, ...result }
  const parts = Object.entries(rest).filter((entry): entry is [string, Json] => entry[1] !== undefined)
  const made = {
    parts: Object.fromEntries(parts.map(([name, value]) => [name, short(value)])),
    layers: layers.map(({ identity }) => short(identity)),
  }
  return Buffer.byteLength(canonicalJson(made)) > IN_NOTE_BYTES ? undefined : made
}

function short(value: Json): string {
  return digestOf(value).slice('sha256:'.length, 'sha256:'.length + SHORT)
}
