import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { formatDocument } from '../../src/definition/format.ts'
import { knownItems } from '../../src/hardening/expand.ts'
import { makePlan } from '../../src/plan/plan.ts'
import { catalogIds } from '../../src/source/catalog.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'
import { SigningKey } from '../updates/signed-archive.ts'
import { block, textOf } from './blocks.ts'
import { examples } from './examples.ts'

beforeEach(() => {
  for (const name of Object.keys(process.env)) if (name.startsWith('IMAGEBUILD_')) vi.stubEnv(name, undefined)
  return () => vi.unstubAllEnvs()
})

/** As the program loads them. */
const KNOWN = { releases: catalogIds(), hardeningItems: knownItems() }

const signing = new SigningKey()
afterAll(() => signing[Symbol.dispose]())

const CA = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFCa3Dg+iGbnd4ML9h3zmEsVNHhjTuKp6OIg0UqKHpNL ca\n'

/** What the examples name beside them. */
const BESIDE = {
  'cloud-init/base.yaml': '#cloud-config\nlocale: C.UTF-8\n',
  'images/web/files/site.conf': 'server { listen 8080; }\n',
  'images/web/scripts/register.sh': 'true\n',
  'images/a/keys/user_ca.pub': CA,
  'images/a/keys/revoked.krl': '',
  'images/a/docker.asc': signing.armored(),
  'ssh-ca/user_ca.pub': CA,
  'ssh-ca/revoked.krl': '',
}

describe('definitions are right, are planned, and stay as they are when they are formatted', () => {
  test.each(examples('definition', 'part'))('%s', async (_, { text }) => {
    const whole = /^name: (.*)$/m.exec(text)?.[1]
    const name = whole ?? 'a'
    const least = whole === undefined ? 'name: a\nsource: { release: debian/13 }\n' : ''
    await using project = await projectOnDisk({ ...BESIDE, [`images/${name}/image.yaml`]: least + text })
    expect(await project.mistakes(KNOWN)).toEqual([])
    const image = (await project.load(KNOWN)).images.get(name)
    if (image === undefined) throw new Error('it was not loaded')
    const { digest } = makePlan(image, { sourceIdentity: 'sha256:1', ssh: { authorities: [] } })
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(formatDocument(text)).toBe(text)
  })
})

const FINGERPRINT = Array(32).fill('AB').join(':')

describe('scheduled runs are right', () => {
  test.each(examples('ci').map(([at, { text }]) => [at, text] as const))('%s', async (_, text) => {
    const config = `namespace: home\ntargets:\n  lab: { kind: lab }\n${text}`
    await using project = await projectOnDisk({ ...BESIDE, 'imagebuild.yaml': config })
    expect(await project.mistakes(KNOWN)).toEqual([])
  })
})

describe('targets are right', () => {
  const HOME = block('README.md', '    endpoint: https://pve.example:8006').text
  const shipped = textOf('imagebuild.yaml')
  const commented = shipped.slice(shipped.indexOf('  # home:')).replaceAll(/^ {2}# ?/gm, '  ')

  test.each([
    ...examples('target').map(([at, { text }]) => [at, text] as const),
    ['the one in imagebuild.yaml, without its comment signs', `targets:\n${commented}`] as const,
  ])('%s', async (_, text) => {
    const whole = /^ {4}ssh:/m.test(text) && !text.startsWith('targets:') ? HOME + text : text
    const least = /^ {4}node: /m.test(whole)
      ? ''
      : '    node: pve\n    storages: { disks: local-lvm, images: local }\n'
    // What is left for the reader to fill in.
    const filled = whole
      .replace(/"AA:BB:…"/, `'${FINGERPRINT}'`)
      .replace(
        /^ {4}# …\n/m,
        `    endpoint: https://pve.example:8006\n    fingerprint: '${FINGERPRINT}'\n${least}`,
      )
    await using project = await projectOnDisk({ ...BESIDE, 'imagebuild.yaml': `namespace: home\n${filled}` })
    expect(await project.mistakes(KNOWN)).toEqual([])
  })
})
