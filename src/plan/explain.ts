import type { SourceLocation } from '../core/errors.ts'
import type { Note } from '../pve/marks.ts'
import { explainHardening } from './explain-hardening.ts'
import { canonicalJson, type Json } from './identity.ts'
import type { Reason } from './reason.ts'
import { type PlanRecord, type RecordedLayer, shortRecord } from './record.ts'
import { listDifferences, textDiff } from './text-diff.ts'

/** Why a template is not what its definition comes to now. Pure: compares what is recorded of it with the present plan. */

/** What is known of the template that counts now. */
export interface Before {
  note: Pick<Note, 'digest' | 'source' | 'made' | 'version'>
  /** missing where another runner has it */
  record?: PlanRecord
}

/** Places in the user's files, for what has no place in a record. */
export interface Places {
  image: SourceLocation
  source: SourceLocation
}

/** Every difference that changes the digest; empty where there is none. */
export function explainRebuild(before: Before, now: PlanRecord, places: Places): Reason[] {
  if (before.note.digest === now.digest) return []
  const reasons = [
    ...explainSource(before.note.source, now, places),
    ...explainParts(before, now, places),
    ...explainLayers(before, now),
  ]
  if (reasons.length > 0) return reasons
  const text = 'its digest is another one, and nobody has recorded what was in it'
  return [{ kind: 'unknown', subject: 'digest', text }]
}

function explainSource(before: Note['source'], now: PlanRecord, { source: where }: Places): Reason[] {
  const { request, identity, version, fallback } = now.source
  if (before === undefined || before.identity === identity) return []
  if (before.request !== request)
    return [
      {
        kind: 'definition',
        subject: 'source',
        text: `source changed: ${before.request} → ${request}`,
        where,
      },
    ]
  if (now.parent !== undefined) {
    const { image } = now.parent
    const text =
      version === ''
        ? `its parent ${image} is built anew first`
        : `its parent ${image} changed: ${before.version} → ${version}`
    return [{ kind: 'parent', subject: image, text, where }]
  }
  if (before.fallback !== fallback) {
    const text = fallback
      ? `${request}: ${before.version} is out of reach, and a system from packages takes its place`
      : `${request}: was made from packages, now there is ${version}`
    return [{ kind: 'source', subject: request, text, where }]
  }
  const text =
    before.version === version
      ? `${request}: other bytes (${brief(before.identity)} → ${brief(identity)})`
      : `${request}: ${before.version} → ${version}`
  return [{ kind: 'source', subject: request, text, where }]
}

function brief(identity: string): string {
  return identity.length > 24 ? `${identity.slice(0, 23)}…` : identity
}

/** What is not a layer: hardware, cloud-config, what the recipe is, … */
function explainParts({ note, record }: Before, now: PlanRecord, places: Places): Reason[] {
  const made = record === undefined ? note.made : shortRecord(record)
  const [old, parts] = [partsOf(record), partsOf(now)]
  const names =
    record === undefined
      ? Object.keys({ ...made?.parts, ...shortRecord(now)?.parts }).filter(
          (name) => made !== undefined && made.parts[name] !== shortRecord(now)?.parts[name],
        )
      : Object.keys({ ...old, ...parts }).filter((name) => !same(old[name], parts[name]))
  const where = places.image
  return names.flatMap((name): Reason[] => {
    if (name === 'source') return []
    if (name === 'recipe')
      return [{ kind: 'recipe', subject: 'recipe', text: 'this imagebuild makes all images in another way' }]
    if (name === 'atSeal')
      return record === undefined
        ? [{ kind: 'hardening', subject: 'hardening', text: 'hardening changed' }]
        : []
    if (record === undefined) return [{ kind: 'definition', subject: name, text: `${name} changed`, where }]
    if (name === 'cloudInit') return explainCloudInit(record, now, where)
    const [a, b] = [old[name], parts[name]]
    return isMap(a) && isMap(b)
      ? Object.keys({ ...a, ...b })
          .filter((key) => !same(a[key], b[key]))
          .map((key) => ({
            kind: 'definition',
            subject: `${name}.${key}`,
            text: `${name}.${key}: ${told(a[key])} → ${told(b[key])}`,
            where,
          }))
      : [{ kind: 'definition', subject: name, text: `${name}: ${told(a)} → ${told(b)}`, where }]
  })
}

function partsOf(record: PlanRecord | undefined): { [key: string]: Json | undefined } {
  return { ...record?.start, ...record?.result }
}

function explainCloudInit(before: PlanRecord, now: PlanRecord, where: SourceLocation): Reason[] {
  const [old, fresh] = [fragmentsOf(before), fragmentsOf(now)]
  const names = [...new Set([...old.keys(), ...fresh.keys()])].filter(
    (name) => old.get(name) !== fresh.get(name),
  )
  if (names.length === 0)
    return [
      {
        kind: 'definition',
        subject: 'cloudInit',
        text: 'the order of the cloud-config fragments changed',
        where,
      },
    ]
  return names.map((name) => {
    const how = !old.has(name) ? 'is new' : !fresh.has(name) ? 'is gone' : 'changed'
    const diff = textDiff(old.get(name) ?? '', fresh.get(name) ?? '')
    return {
      kind: 'definition',
      subject: `cloud-config ${name}`,
      text: `cloud-config ${name} ${how}`,
      where,
      ...(diff !== undefined && { diff }),
    }
  })
}

function fragmentsOf({ fragments, start }: PlanRecord): Map<string, string> {
  const configs = (start.cloudInit ?? []) as Json[]
  return new Map(fragments.map((name, index) => [name, JSON.stringify(configs[index] ?? null, undefined, 2)]))
}

function explainLayers({ note, record }: Before, now: PlanRecord): Reason[] {
  if (record === undefined) return explainByNote(note, now)
  const of = ({ identity }: RecordedLayer) => canonicalJson(identity)
  const reasons: Reason[] = []
  const certificates: Reason[] = []
  for (const { gone, added } of listDifferences(record.layers.map(of), now.layers.map(of))) {
    for (const [old, fresh] of paired(pick(record.layers, gone), pick(now.layers, added))) {
      const by = (fresh ?? old)?.by
      if (by === 'hardening') continue
      const reason = explainLayer(old, fresh, now)
      if (by === 'certificates') certificates.push({ ...reason, kind: 'certificates' })
      else reasons.push(reason)
    }
  }
  return [...reasons, ...explainAuthorities(record, now), ...certificates, ...explainHardening(record, now)]
}

function explainAuthorities(before: PlanRecord, now: PlanRecord): Reason[] {
  const diff = textDiff(before.authorities.join('\n'), now.authorities.join('\n'))
  if (before.authorities.join() === now.authorities.join()) return []
  return [
    {
      kind: 'certificates',
      subject: 'ssh.ca',
      text: 'the SSH user CAs changed',
      ...(diff !== undefined && { diff }),
    },
  ]
}

function explainLayer(
  old: RecordedLayer | undefined,
  fresh: RecordedLayer | undefined,
  now: PlanRecord,
): Reason {
  const diff = textDiff(old?.text ?? '', fresh?.text ?? '')
  const shown = diff === undefined ? {} : { diff }
  const subject = (fresh ?? old)?.name ?? ''
  if (fresh === undefined)
    return { kind: 'definition', subject, text: `a layer is gone: ${subject}`, ...shown }
  const text = `${position(fresh, now)} ${old === undefined ? 'is new' : 'changed'}: ${subject}`
  return { kind: 'definition', subject, text, where: fresh.where, ...shown }
}

/** As a build calls it while it works. */
function position(layer: RecordedLayer, { layers }: PlanRecord): string {
  return `layer ${layers.indexOf(layer) + 1}/${layers.length}`
}

/** Old and new layers of one place that are the same thing in another shape. */
function paired(
  gone: readonly RecordedLayer[],
  added: readonly RecordedLayer[],
): [RecordedLayer | undefined, RecordedLayer | undefined][] {
  const left = [...gone]
  const take = (matches: (old: RecordedLayer) => boolean) => {
    const index = left.findIndex(matches)
    return index < 0 ? undefined : left.splice(index, 1)[0]
  }
  const partners = new Map<RecordedLayer, RecordedLayer>()
  // By name first: of two scripts of which one is gone, the other is still itself.
  for (const alike of [sameName, sameKind]) {
    for (const layer of added) {
      const old = partners.has(layer) ? undefined : take((one) => alike(one, layer))
      if (old !== undefined) partners.set(layer, old)
    }
  }
  return [
    ...added.map((layer): [RecordedLayer | undefined, RecordedLayer] => [partners.get(layer), layer]),
    ...left.map((old): [RecordedLayer, undefined] => [old, undefined]),
  ]
}

function sameName(a: RecordedLayer, b: RecordedLayer): boolean {
  return a.name === b.name && a.by === b.by
}

/** Two files are the same only where they have the same path. */
function sameKind(a: RecordedLayer, b: RecordedLayer): boolean {
  const kind = ({ identity }: RecordedLayer) => {
    const map = identity as { [key: string]: Json }
    return 'file' in map
      ? `file ${map.file}`
      : Object.keys(map).find((key) => /^(packages|shell|reboot)$/.test(key))
  }
  return a.by === b.by && kind(a) === kind(b)
}

/** Without the record: which layers, by their short digests, but not how. */
function explainByNote({ made }: Before['note'], now: PlanRecord): Reason[] {
  const fresh = shortRecord(now)
  if (made === undefined || fresh === undefined) return []
  const reasons: Reason[] = []
  for (const { gone, added } of listDifferences(made.layers, fresh.layers)) {
    for (const layer of pick(now.layers, added)) {
      const kind = layer.by
      const text = `${position(layer, now)} is new or changed: ${layer.name}`
      reasons.push({
        ...{ kind, subject: layer.name, text },
        ...(kind === 'definition' && { where: layer.where }),
      })
    }
    const lost = gone.length - added.length
    if (lost > 0)
      reasons.push({
        ...{ kind: 'definition', subject: 'layers' },
        text: `${lost === 1 ? 'a layer is' : `${lost} layers are`} gone`,
      })
  }
  return reasons
}

function pick<T>(all: readonly T[], at: readonly number[]): T[] {
  return at.map((index) => all[index] as T)
}

function same(a: Json | undefined, b: Json | undefined): boolean {
  return (a === undefined ? undefined : canonicalJson(a)) === (b === undefined ? undefined : canonicalJson(b))
}

function isMap(value: Json | undefined): value is { [key: string]: Json | undefined } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function told(value: Json | undefined): string {
  return value === undefined ? 'nothing' : typeof value === 'string' ? value : canonicalJson(value)
}
