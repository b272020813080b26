import { expect, test } from 'vitest'
import { requireArchitecture } from '../../src/build/node-architecture.ts'
import type { ImageSpec } from '../../src/definition/spec.ts'
import { imageSpec, lxcSpec } from '../plan/spec.ts'
import { MemoryProxmox, PLACE } from '../pve/memory-proxmox.ts'

const AMD64 = ['pc-q35-9.2', 'pc-i440fx-9.2+pve1']
const ARM64 = ['virt-9.2', 'virt-9.1']

function ask(machines: string[] | undefined, image: ImageSpec) {
  const pve = new MemoryProxmox()
  pve.machines = machines
  return requireArchitecture(pve.client(), image, PLACE).catch((error) => error)
}

const forArm = <Image extends ImageSpec>(image: Image): Image => ({
  ...image,
  source: { ...image.source, architecture: 'arm64' },
})

test.each([
  ['amd64 on amd64', AMD64, imageSpec()],
  ['arm64 on arm64', ARM64, forArm(imageSpec())],
  ['a node that lists none', [], forArm(imageSpec())],
  ['a node that cannot tell', undefined, forArm(imageSpec())],
])('%s is fine', async (_, machines, image) => {
  expect(await ask(machines, image)).toBeUndefined()
})

test.each([
  ['a machine for arm64', AMD64, forArm(imageSpec()), 'arm64', 'amd64'],
  ['a container for arm64', AMD64, forArm(lxcSpec()), 'arm64', 'amd64'],
  ['a machine for amd64', ARM64, imageSpec(), 'amd64', 'arm64'],
])('%s is refused on a node that is not', async (_, machines, image, wanted, has) => {
  expect(await ask(machines, image)).toMatchObject({
    exitCode: 65,
    what: `web is for ${wanted}, and the node pve is ${has}`,
    where: image.source.where,
    next: expect.stringContaining(`architecture: ${has}`),
  })
})
