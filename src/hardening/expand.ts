import { dirname } from 'node:path/posix'
import type { SourceLocation } from '../core/errors.ts'
import { shellWord } from '../core/shell-word.ts'
import type { Check } from '../definition/check.ts'
import type { KnownItem } from '../definition/hardening.ts'
import type { Profile } from '../definition/hardening-schema.ts'
import type { HardeningSpec, Layer } from '../definition/spec.ts'
import { AREAS, type HardeningFile, type HardeningItem, type MachineTraits, type Measures } from './item.ts'
import { ITEMS } from './items/index.ts'

export interface Hardening {
  /** installs the packages of all items, before anything else is done to the guest; missing where there are none */
  packages?: Layer
  /** applied after the definition's own layers */
  layers: Layer[]
  /** a shell script for the end of the build, before sealing; empty where there is nothing to do */
  atSeal: string
  checks: Check[]
  /** what is done for each item, by its id */
  applied: { id: string; measures: Measures }[]
  /** what is not done, and why: never counted as passed */
  left: LeftOut[]
}

export interface LeftOut {
  id: string
  title: string
  sources: readonly string[]
  /**
   * not-applicable: no such machine can have it; excepted: switched off by the definition; inherited: the same, but an
   * image that this one is built on has applied it
   */
  because: 'not-applicable' | 'excepted' | 'inherited'
  reason: string
}

interface Wanted {
  profile: Profile
  /** ids of items that are switched off, with the reason */
  except: Readonly<Record<string, string>>
  /** which of them an ancestor has applied */
  inherited?: HardeningSpec['inherited']
  /** of `hardening` in the definition */
  where: SourceLocation
}

/** Seconds that one area's script may take; AIDE and the like run on clones, not here. */
const AREA_SECONDS = 900
const PACKAGES_SECONDS = 1800

/** What a profile means for one machine. Pure: the layers are part of the image's digest. */
export function expandHardening(
  { profile, except, inherited = {}, where }: Wanted,
  machine: MachineTraits,
  items: readonly HardeningItem[] = ITEMS,
): Hardening {
  const left: LeftOut[] = []
  const applied: HardeningItem[] = []
  for (const item of itemsOf(profile, items)) {
    const { id, title, sources } = item
    const impossible = item.notApplicable?.(machine)
    if (impossible !== undefined)
      left.push({ id, title, sources, because: 'not-applicable', reason: impossible })
    else if (except[id] !== undefined)
      left.push({ id, title, sources, ...excepted(except[id], inherited[id]) })
    else applied.push(item)
  }
  const ids = new Set(applied.map(({ id }) => id))
  const measures = applied.map((item) => ({ item, ...measuresOf(item, machine, ids) }))
  const install = [...new Set(measures.flatMap(({ packages = [] }) => packages))].sort()
  const remove = [...new Set(measures.flatMap((one) => one.remove ?? []))].sort()
  const layers: Layer[] = []
  // After the definition's own, so that nothing that one of them installs is left out.
  if (remove.length > 0)
    layers.push(shellLayer('hardening: packages that must not be there', [purge(remove)], where))
  for (const area of AREAS) {
    const here = measures.filter(({ item }) => item.area === area)
    const pam = here.flatMap((one) => one.pam ?? [])
    const parts = [
      writeFiles(here.flatMap(({ files = [] }) => files)),
      ...here.flatMap(({ item, script }) => (script === undefined ? [] : [subshell(item.id, script)])),
      pam.length === 0 ? '' : `pam-auth-update --package --enable ${pam.join(' ')}\n`,
    ].filter((part) => part !== '')
    if (parts.length > 0) layers.push(shellLayer(`hardening: ${area}`, parts, where))
  }
  const units = [...new Set(measures.flatMap(({ enable = [] }) => enable))]
  if (units.length > 0) layers.push(shellLayer('hardening: units', units.map(enableUnit), where))
  const atSeal = measures
    .flatMap(({ item, atSeal: script }) => (script === undefined ? [] : [subshell(item.id, script)]))
    .join('')
  return {
    ...(install.length > 0 && { packages: packagesLayer(install, where) }),
    layers,
    atSeal,
    checks: applied.flatMap((item) => checksOf(item, machine, ids)),
    applied: applied.map((item) => ({ id: item.id, measures: measuresOf(item, machine, ids) })),
    left,
  }
}

function excepted(
  reason: string,
  by: NonNullable<HardeningSpec['inherited']>[string] | undefined,
): Pick<LeftOut, 'because' | 'reason'> {
  if (by === undefined) return { because: 'excepted', reason }
  const stays = `applied by ${by.image} (${by.where.file}:${by.where.line}), which stays unless a layer undoes it`
  return { because: 'inherited', reason: `${reason}; ${stays}` }
}

/** The items of a profile, on whatever machine. */
export function itemsOf(profile: Profile, items: readonly HardeningItem[] = ITEMS): HardeningItem[] {
  if (profile === 'none') return []
  return items.filter((item) => profile === 'cis-l1' || item.profile === 'baseline')
}

/** What loading a definition must know of the items. */
export function knownItems(items: readonly HardeningItem[] = ITEMS): KnownItem[] {
  return items.map((item) => ({
    id: item.id,
    profile: item.profile,
    on: (machine) => {
      if (item.notApplicable?.(machine) !== undefined) return undefined
      const { files = [] } = measuresOf(item, machine, new Set())
      return { forbids: item.forbids ?? [], writes: files.map(({ path }) => path) }
    },
  }))
}

function measuresOf(
  { measures }: HardeningItem,
  machine: MachineTraits,
  applied: ReadonlySet<string>,
): Measures {
  return typeof measures === 'function' ? measures(machine, applied) : measures
}

function checksOf(
  { id, title, sources, checks }: HardeningItem,
  machine: MachineTraits,
  applied: ReadonlySet<string>,
): Check[] {
  const asked = typeof checks === 'function' ? checks(machine, applied) : checks
  return asked.map((check, index) => ({
    ...check,
    id: asked.length === 1 ? id : `${id}/${index + 1}`,
    title: check.title ?? title,
    sources,
  }))
}

function packagesLayer(install: string[], where: SourceLocation): Layer {
  const name = 'hardening: packages'
  return {
    kind: 'packages',
    name,
    where,
    timeoutSeconds: PACKAGES_SECONDS,
    install,
    remove: [],
    upgrade: false,
  }
}

/** Most systems have none of them: then apt, which takes seconds to begin, has nothing to do. */
function purge(packages: readonly string[]): string {
  return `there=$(dpkg-query -W -f '\${db:Status-Status} \${Package}\\n' ${packages.join(' ')} 2>/dev/null | sed -n 's/^installed //p')
[ -z "$there" ] || apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 purge --autoremove $there
`
}

function shellLayer(name: string, parts: readonly string[], where: SourceLocation): Layer {
  return {
    kind: 'shell',
    name,
    where,
    timeoutSeconds: AREA_SECONDS,
    script: new TextEncoder().encode(
      `#!/bin/sh\nset -eu\numask 022\nexport DEBIAN_FRONTEND=noninteractive\n${parts.join('')}`,
    ),
    user: 'root',
    env: {},
    secrets: {},
  }
}

/** By what the shell has built in, as far as that goes: in an emulated machine each process takes longer than its work. */
function writeFiles(files: readonly HardeningFile[]): string {
  if (files.length === 0) return ''
  const paths = files.map(({ path }) => path)
  const folders = [...new Set(paths.map((path) => dirname(path)))]
  // Anew, since a file that is there keeps its mode and owner, and may be a link.
  const lines = [`mkdir -p ${folders.join(' ')}`, `rm -f ${paths.join(' ')}`]
  for (const { path, content } of files) lines.push(`printf %s ${shellWord(content)} > ${path}`)
  for (const [mode, those] of Map.groupBy(files, ({ mode = '0644' }) => mode))
    if (mode !== '0644') lines.push(`chmod ${mode} ${those.map(({ path }) => path).join(' ')}`)
  for (const [owner, those] of Map.groupBy(files, ({ owner = 'root:root' }) => owner))
    if (owner !== 'root:root') lines.push(`chown ${owner} ${those.map(({ path }) => path).join(' ')}`)
  return `${lines.join('\n')}\n`
}

/**
 * Asks first: packages have enabled most of them, and enabling a unit that has an init script, too, takes seconds. What is
 * enabled starts with the next boot.
 */
function enableUnit(unit: string): string {
  return `systemctl --quiet is-enabled ${unit} 2>/dev/null || systemctl --quiet --no-reload enable ${unit}\n`
}

/** What one item sets or changes directory to is not the next one's; the id shows in the log where it failed. */
function subshell(id: string, script: string): string {
  return `echo 'item ${id}'\n(\n${script.trim()}\n)\n`
}
