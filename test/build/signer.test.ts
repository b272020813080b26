import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { signerOf } from '../../src/build/signer.ts'
import { createAuthority, ensureAuthority, rotateAuthority } from '../../src/ssh/ca/authority.ts'
import { describeCertificate } from '../../src/ssh/ca/certificate.ts'
import { generateKeyPair } from '../../src/ssh/openssh.ts'
import { startAgent } from '../ssh/ca/ca-folder.ts'
import { aBuild } from './world.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-signer-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

function building(signer?: string) {
  const build = aBuild()
  return { ...build, place: { ...build.place, ssh: { authorities: [], ...(signer && { signer }) } } }
}
const request = async () => ({
  publicKey: (await generateKeyPair('someone')).publicKey,
  principals: ['debian'],
  identity: 'verify',
  validity: 60,
})
const trusting = (...authorities: string[]) => ({ authorities, principals: {} })

test('without a CA, or without a folder of its keys, nobody signs, and nobody is warned', async () => {
  const { userCa } = await ensureAuthority(join(folder, 'plain'))
  const build = building(join(folder, 'plain'))
  expect(await signerOf(build, trusting())).toBeUndefined()
  expect(await signerOf(building(), trusting(...userCa))).toBeUndefined()
  expect(build.events).toEqual([])
})

test('the keys that the image trusts sign, also when there are newer ones', async () => {
  const path = join(folder, 'rotated')
  const { userCa } = await ensureAuthority(path)
  await rotateAuthority({ folder: path })
  const signer = await signerOf(building(path), trusting(...userCa))
  const certificate = await signer?.sign(await request())
  const { ca } = await describeCertificate(certificate ?? '')
  const { pairs } = await ensureAuthority(path)
  expect(ca).toBe(pairs.at(-1)?.user.fingerprint)
})

test('keys with a passphrase sign once ssh-agent holds them', async () => {
  const path = join(folder, 'locked')
  const { userCa, pairs } = await createAuthority({ folder: path, passphrase: 'correct horse' })
  using agent = await startAgent(join(folder, 'agent'))
  agent.add(pairs[0]?.user.privateFile as string, 'correct horse')
  const build = building(path)
  const signer = await signerOf(build, trusting(...userCa))
  const { ca } = await describeCertificate((await signer?.sign(await request())) ?? '')
  expect(ca).toBe(pairs[0]?.user.fingerprint)
  expect(build.events).toEqual([])
})

test.each([
  [
    'the image trusts another CA',
    async (path: string) => {
      await ensureAuthority(path)
      return (await generateKeyPair('other')).publicKey
    },
    'does not trust',
  ],
  [
    'the keys have a passphrase',
    async (path: string) =>
      (await createAuthority({ folder: path, passphrase: 'correct horse' })).userCa[0] as string,
    'have a passphrase; `ssh-add /',
  ],
  [
    'the keys are in an ssh-agent that is not here',
    async (path: string) => {
      const { userCa } = await ensureAuthority(path)
      await rm(join(path, 'keys/1/user_ca'))
      return userCa[0] as string
    },
    'agent',
  ],
  [
    'there is no CA in the folder',
    async () => (await generateKeyPair('gone')).publicKey,
    'there is no SSH CA',
  ],
])('%s: said, and no reason to fail', async (name, prepare, why) => {
  const path = join(folder, name)
  const build = building(path)
  expect(await signerOf(build, trusting(await prepare(path)))).toBeUndefined()
  expect(build.events).toMatchObject([{ type: 'warning', message: expect.stringContaining(why) }])
})
