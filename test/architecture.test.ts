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
  undici: /^src\/(source|lab\/api)\/|^src\/notify\/exchange\.ts$|^ci\/forge-fetch\.ts$/,
  nodemailer: /^src\/notify\/mail\.ts$/,
  yaml: /^src\/definition\//,
  'js-yaml': /^src\/seed\/cloud-config\.ts$/,
  busboy: /^src\/lab\/api\//,
  ws: /^src\/(pve\/console\.ts$|lab\/api\/)/,
  commander: /^src\/cli\/program(-ci|-help|-lab|-ssh-ca|-versions)?\.ts$/,
  '@octokit/rest': /^ci\/github-client\.ts$/,
  '@octokit/plugin-retry': /^ci\/github-client\.ts$/,
  '@octokit/plugin-throttling': /^ci\/github-client\.ts$/,
  '@octokit/request-error': /^ci\/github-failure\.ts$/,
  '@cyclonedx/cyclonedx-library': /^src\/build\/inventory\/sbom\.ts$/,
  'packageurl-js': /^src\/build\/inventory\/sbom\.ts$/,
  diff: /^src\/plan\/text-diff\.ts$/,
  '@streamparser/json': /^src\/updates\/debian-tracker\.ts$/,
  'tar-stream': /^src\/archive\/read-entries\.ts$/,
}

const read = (pattern: string) =>
  globSync(pattern).map((file) => {
    const text = readFileSync(file, 'utf8')
    const all = (expression: RegExp) => [...text.matchAll(expression)].map((match) => match[1] as string)
    const types = all(/^(?:import|export) type\b[^'"]*from '([^']+)'/gm)
    const values = all(/^(?:import|export)\b(?! type\b)[^'"]*from '([^']+)'/gm)
    const lazy = all(/\bimport\('([^']+)'\)/g)
    return { file, types, values, lazy, imports: [...types, ...values, ...lazy] }
  })

const files = read('src/**/*.ts')
/** Talks to forges (GitHub, Forgejo) after scheduled rebuilds. */
const ci = read('ci/**/*.ts')

const room = (path: string) => path.split('/')[1] as string
const floor = (path: string) => FLOORS.findIndex((rooms) => rooms.includes(room(path)))

/** A sentence for each rule that a file breaks. */
function broken({ file, imports }: (typeof files)[number]): string[] {
  if (floor(file) < 0) return [`${file} belongs to no room`]
  const upward = paths(file, imports)
    .filter((path) => path.startsWith('src/') && room(path) !== room(file) && floor(path) >= floor(file))
    .map((path) => `${file} imports ${path}, which is not on a lower floor`)
  return [...upward, ...misplaced({ file, imports })]
}

function misplaced({ file, imports }: Pick<(typeof files)[number], 'file' | 'imports'>): string[] {
  return Object.entries(BOUNDARIES)
    .filter(([library, place]) => !place.test(file) && imports.some((name) => isOf(library, name)))
    .map(([library]) => `${file} imports ${library}, which only ${BOUNDARIES[library]} may know`)
}

/** The project's own files among what a file imports, from the project's root. */
function paths(file: string, imports: readonly string[]): string[] {
  return imports.filter((path) => path.startsWith('.')).map((path) => normalize(join(dirname(file), path)))
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

test('ci/ is loaded when it is needed, and knows of src/ the core and types only', () => {
  expect(ci.length).toBeGreaterThan(0)
  const eager = files.flatMap(({ file, types, values }) =>
    paths(file, [...types, ...values])
      .filter((path) => path.startsWith('ci/'))
      .map((path) => `${file} imports ${path} before it is needed`),
  )
  const elsewhere = files.flatMap(({ file, lazy }) =>
    paths(file, lazy)
      .filter((path) => path.startsWith('ci/') && room(file) !== 'cli')
      .map((path) => `${file} imports ${path}, which only commands may ask for`),
  )
  const beyond = ci.flatMap(({ file, values, lazy }) =>
    paths(file, [...values, ...lazy])
      .filter((path) => !path.startsWith('ci/') && !path.startsWith('src/core/'))
      .map((path) => `${file} imports ${path}, of which it may know types only`),
  )
  expect([...eager, ...elsewhere, ...beyond, ...ci.flatMap(misplaced)]).toEqual([])
})

test('no file is named after nothing', () => {
  expect(
    [...files, ...ci].filter(({ file }) => /(utils?|helpers?|common|manager|misc)\b/.test(file)),
  ).toEqual([])
})
