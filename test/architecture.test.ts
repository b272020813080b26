import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { expect, test } from 'vitest'

/** The rooms from the ground up: a file may import from its own room and from lower floors only. */
const FLOORS = [
  ['core'],
  ['definition', 'source', 'archive', 'pve', 'ssh', 'lab'],
  ['hardening', 'updates', 'notify'],
  ['plan', 'seed'],
  ['build'],
  ['cli'],
]

/** Libraries that touch the outside world or have an opinion, and the only place that may know them. */
const BOUNDARIES: Record<string, RegExp> = {
  'node-ssh': /^src\/ssh\/session\.ts$/,
  ssh2: /^src\/ssh\//,
  'proxmox-api': /^src\/pve\/api\.ts$/,
  undici: /^src\/(source|lab\/api)\/|^src\/notify\/exchange\.ts$/,
  nodemailer: /^src\/notify\/mail\.ts$/,
  yaml: /^src\/definition\//,
  'js-yaml': /^src\/seed\/cloud-config\.ts$/,
  busboy: /^src\/lab\/api\//,
  ws: /^src\/(pve\/console\.ts$|lab\/api\/)/,
  commander: /^src\/cli\/program(-help|-lab|-ssh-ca|-versions)?\.ts$/,
  '@octokit/rest': /^ci\//,
  '@cyclonedx/cyclonedx-library': /^src\/build\/inventory\/sbom\.ts$/,
  'packageurl-js': /^src\/build\/inventory\/sbom\.ts$/,
  diff: /^src\/plan\/text-diff\.ts$/,
  '@streamparser/json': /^src\/updates\/debian-tracker\.ts$/,
  'tar-stream': /^src\/archive\/read-entries\.ts$/,
}

const files = globSync('src/**/*.ts').map((file) => ({
  file,
  imports: [
    ...readFileSync(file, 'utf8').matchAll(
      /^(?:import|export)\b[^'"]*from '([^']+)'|\bimport\('([^']+)'\)/gm,
    ),
  ].map((match) => (match[1] ?? match[2]) as string),
}))

const room = (path: string) => path.split('/')[1] as string
const floor = (path: string) => FLOORS.findIndex((rooms) => rooms.includes(room(path)))

/** A sentence for each rule that a file breaks. */
function broken({ file, imports }: (typeof files)[number]): string[] {
  if (floor(file) < 0) return [`${file} belongs to no room`]
  const upward = imports
    .filter((path) => path.startsWith('.'))
    .map((path) => normalize(join(dirname(file), path)))
    .filter((path) => path.startsWith('src/') && room(path) !== room(file) && floor(path) >= floor(file))
    .map((path) => `${file} imports ${path}, which is not on a lower floor`)
  const misplaced = Object.entries(BOUNDARIES)
    .filter(([library, place]) => !place.test(file) && imports.some((name) => isOf(library, name)))
    .map(([library]) => `${file} imports ${library}, which only ${BOUNDARIES[library]} may know`)
  return [...upward, ...misplaced]
}

const isOf = (library: string, name: string) => name === library || name.startsWith(`${library}/`)

test('imports point one way, and each boundary library is imported in one place', () => {
  expect(files.length).toBeGreaterThan(0)
  expect(files.flatMap(broken)).toEqual([])
})

/** Writing to the terminal, by whatever name; whether it is one, and what shows colours, anybody may ask. */
const WRITES = /\bprocess\.std(?:out|err)\b(?!\.isTTY)|\bconsole\.(?:log|info|warn|error|debug)\(/
/** Outputs are watched before there is anything to say; the version is told before anything is loaded; the daemon writes its log. */
const WRITERS = /^src\/(cli\/(output|closed-pipes|main)|lab\/daemon)\.ts$/

test('one place writes to the terminal, and one knows what must not reach it', () => {
  const sources = files.map(({ file }) => ({ file, code: readFileSync(file, 'utf8') }))
  const elsewhere = (what: RegExp, place: RegExp) =>
    sources.filter(({ file, code }) => what.test(code) && !place.test(file)).map(({ file }) => file)
  expect(elsewhere(WRITES, WRITERS)).toEqual([])
  expect(elsewhere(/stripVTControlCharacters/, /^$/)).toEqual([])
})

test('no file is named after nothing', () => {
  expect(files.filter(({ file }) => /(utils?|helpers?|common|manager|misc)\b/.test(file))).toEqual([])
})
