import { appendFile, cp } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { knownItems } from '../../src/hardening/expand.ts'
import { makePlan } from '../../src/plan/plan.ts'
import { catalogIds } from '../../src/source/catalog.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'

const IMAGE = 'debian-base-lxc'
const SHIPPED = fileURLToPath(new URL('../../images/', import.meta.url))

/** The plan of the shipped definition with a line more. */
async function planned(line: string) {
  await using project = await projectOnDisk({})
  const folder = join(project.root, 'images', IMAGE)
  await cp(join(SHIPPED, IMAGE), folder, { recursive: true })
  await appendFile(join(folder, 'image.yaml'), line)
  const { images } = await project.load({ releases: catalogIds(), hardeningItems: knownItems() })
  const image = images.get(IMAGE)
  if (image === undefined) throw new TypeError(`${IMAGE} was not loaded`)
  return makePlan(image, { sourceIdentity: 'sha256:0', ssh: { authorities: [] } })
}

test('nesting takes no hardening item away from the shipped container', async () => {
  const [by, without] = [await planned(''), await planned('features: { nesting: false }\n')]
  expect(by.result).toMatchObject({ features: { nesting: true } })
  expect(without.result).toMatchObject({ features: { nesting: false } })
  expect(by.items).toEqual(without.items)
  expect(by.checks).toEqual(without.checks)
  expect(by.left).toEqual(without.left)
  // What a machine with containers of its own does without.
  expect(Object.keys(by.items)).toContain('network-forwarding')
})
