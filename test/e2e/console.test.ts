import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ensureLab } from '../../src/lab/lab.ts'
import { tinySource } from '../campaign/tiny-system.ts'
import { inventory, LAB_DIR, labClient, makeProject, type Project } from './harness.ts'

/** A guest that nobody can log in to: what it has printed is in the error, by the lab's token as by any of Proxmox VE 9. */

let project: Project
let folder: string
beforeAll(async () => {
  await ensureLab({ dir: LAB_DIR, signal: AbortSignal.timeout(120_000), emit: () => {}, stay: true })
  project = await makeProject({})
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-mute-'))
})
afterAll(async () => {
  await project[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

test('a container that starts no SSH server, and shows its private key', async () => {
  await using pve = await labClient()
  const before = await inventory(pve)
  const source = await tinySource(
    folder,
    'cat $key; echo there is no SSH server today; printf "press a key: "',
  )
  await project.write({
    'images/mute/image.yaml': `name: mute
kind: lxc
${source}
hardware: { rootfs: 64M }
hardening: none
build: { bootTimeout: 10s }
`,
  })
  const { exitCode, result, events } = await project.run(['mute'])
  expect(exitCode).toBe(1)
  expect(result.error?.what).toContain('nobody could log in to the guest of mute')
  const said = result.error?.output as string[]
  expect(said).toEqual(expect.arrayContaining(['(a private key, not shown)', 'there is no SSH server today']))
  expect(said.at(-1)).toContain('press a key: ')
  // What all keys of OpenSSH begin with.
  expect(JSON.stringify(events)).not.toContain(Buffer.from('openssh-key-v1').toString('base64').slice(0, 16))
  expect(await inventory(pve)).toEqual(before)
})
