import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'

/** The rooms from the ground up: a file may import from its own room and from lower floors only. */
const FLOORS = [
  ['core'],
  ['definition', 'source', 'archive', 'pve', 'ssh', 'lab'],
  ['hardening'],
  ['plan', 'seed'],
  ['build'],
  ['cli'],
]

/** Libraries that touch the outside world or have an opinion, and the only place that may know them. */
const BOUNDARIES: Record<string, RegExp> = {
  'node-ssh': /^src\/ssh\/session\.ts$/,
  ssh2: /^src\/ssh\//,
  'proxmox-api': /^src\/pve\/api\.ts$/,
  undici: /^src\/(source|lab\/api)\//,
  yaml: /^src\/definition\//,
  'js-yaml': /^src\/seed\/cloud-config\.ts$/,
  busboy: /^src\/lab\/api\//,
  ws: /^src\/(pve\/console\.ts$|lab\/api\/)/,
  commander: /^src\/cli\/program(-ssh-ca|-versions)?\.ts$/,
  '@octokit/rest': /^ci\//,
  '@cyclonedx/cyclonedx-library': /^src\/build\/inventory\/sbom\.ts$/,
  'packageurl-js': /^src\/build\/inventory\/sbom\.ts$/,
  diff: /^src\/plan\/text-diff\.ts$/,
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

describe('imports point one way', () => {
  test.each(files)('$file', ({ file, imports }) => {
    expect(floor(file), 'belongs to a room').toBeGreaterThanOrEqual(0)
    for (const target of imports.filter((path) => path.startsWith('.'))) {
      const path = normalize(join(dirname(file), target))
      if (room(path) === room(file) || !path.startsWith('src/')) continue
      expect(floor(path), `${file} imports ${path}`).toBeLessThan(floor(file))
    }
  })
})

describe('each boundary library is imported in one place', () => {
  test.each(Object.entries(BOUNDARIES))('%s', (library, place) => {
    const users = files.filter(({ imports }) =>
      imports.some((name) => name === library || name.startsWith(`${library}/`)),
    )
    expect(users.map(({ file }) => file).filter((file) => !place.test(file))).toEqual([])
  })
})

test('no file is named after nothing', () => {
  expect(files.filter(({ file }) => /(utils?|helpers?|common|manager|misc)\b/.test(file))).toEqual([])
})
