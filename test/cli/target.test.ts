import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { chooseTarget, connectTarget, withArchives } from '../../src/cli/target.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { readConfig } from '../../src/definition/config.ts'
import type { Project } from '../../src/definition/load.ts'
import { ProvenAgent } from '../../src/pve/tls.ts'
import { selfSigned, startFake, TOKEN } from '../pve/server.ts'

beforeEach(() => {
  vi.stubEnv('CI', undefined)
})
afterEach(() => {
  vi.unstubAllEnvs()
})

const project = (names: string[], defaultTarget?: string) =>
  ({
    configFile: 'imagebuild.yaml',
    targets: Object.fromEntries(names.map((name) => [name, { kind: 'lab' }])),
    ...(defaultTarget !== undefined && { defaultTarget }),
  }) as unknown as Project

describe('the target', () => {
  test('is the one that was asked for, else the default, else the only one', () => {
    expect(chooseTarget(project(['lab', 'home'], 'lab'), 'home').name).toBe('home')
    expect(chooseTarget(project(['lab', 'home'], 'home'), undefined).name).toBe('home')
    expect(chooseTarget(project(['home']), undefined).name).toBe('home')
    expect(chooseTarget(project(['lab', 'home'], 'lab'), '').name).toBe('lab')
  })

  test('must be chosen where there are several and no default', () => {
    expect(() => chooseTarget(project(['lab', 'home']), undefined)).toThrow(
      expect.objectContaining({
        code: 'usage',
        next: 'give --target or IMAGEBUILD_TARGET: one of lab, home',
      }),
    )
  })

  test('must be chosen on CI, even where there is a default', () => {
    vi.stubEnv('CI', '1')
    expect(() => chooseTarget(project(['lab'], 'lab'), undefined)).toThrow(
      expect.objectContaining({ code: 'usage' }),
    )
    expect(chooseTarget(project(['lab'], 'lab'), 'lab').name).toBe('lab')
  })

  test.each([
    ['hme', /did you mean.*home/i],
    ['production', /lab, home/],
    ['constructor', /lab, home/],
  ])('%s is none of them', (name, next) => {
    expect(() => chooseTarget(project(['lab', 'home']), name)).toThrow(
      expect.objectContaining({ code: 'usage', next: expect.stringMatching(next) }),
    )
  })
})

test('archives lie with the other images, unless the target says otherwise', () => {
  expect(withArchives({ disks: 'local-lvm', images: 'nas' })).toEqual({
    disks: 'local-lvm',
    images: 'nas',
    archives: 'nas',
  })
  expect(withArchives({ disks: 'local-lvm', images: 'nas', archives: 'local' }).archives).toBe('local')
})

test('where connecting fails in the end, the connection is closed', async () => {
  await using pve = await startFake(await selfSigned())
  // It closes idle connections after some seconds, too.
  const close = vi.spyOn(ProvenAgent.prototype, 'destroy')
  pve.on('GET /nodes', { json: { data: [{ node: 'pve' }] } })
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-target-'))
  vi.stubEnv('PROXMOX_VE_API_TOKEN', TOKEN)
  try {
    const file = join(folder, 'imagebuild.yaml')
    const ssh = "ssh: { revokedKeys: 'revoked' }"
    await writeFile(join(folder, 'revoked'), '')
    await writeFile(
      file,
      `namespace: home
targets:
  home: { kind: pve, endpoint: '${pve.endpoint}', fingerprint: '${pve.fingerprint}', node: pve, storages: { disks: local, images: local }, ${ssh} }
`,
    )
    const config = await readConfig(file)
    await rm(join(folder, 'revoked'))
    const { signal } = new AbortController()
    const invocation = { version: '0', secrets: new SecretRegistry(), signal, debug: false }
    const connecting = connectTarget(invocation, config, 'home', () => {})
    await expect(connecting).rejects.toMatchObject({ code: 'ENOENT' })
    expect(close).toHaveBeenCalledOnce()
  } finally {
    close.mockRestore()
    await rm(folder, { recursive: true })
  }
})
