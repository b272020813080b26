import { expect, test } from 'vitest'
import { onEach, tellWhatIsThere } from '../../src/build/nodes.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import type { Template } from '../../src/pve/templates.ts'
import { PLACE } from '../pve/memory-proxmox.ts'
import { aBuild } from './world.ts'

const [a, b, c] = ['a', 'b', 'c'].map((node) => aBuild({ place: { ...PLACE, node } })) as [
  ReturnType<typeof aBuild>,
  ReturnType<typeof aBuild>,
  ReturnType<typeof aBuild>,
]
const broken = (what: string) => new ImagebuildError({ code: 'build_failed', what, next: 'mend it' })

test('what all nodes have done comes in their order', async () => {
  const started: string[] = []
  const all = await onEach([a, b, c], async ({ place }) => {
    started.push(place.node)
    // Nobody goes on before all have begun: they run at once.
    while (started.length < 3) await new Promise((resolve) => setImmediate(resolve))
    return place.node
  })
  expect(all).toEqual(['a', 'b', 'c'])
})

test('one that fails stops no other; the error says where, and what is done already', async () => {
  let ended = false
  const work = onEach([a, b, c], async ({ place }) => {
    if (place.node !== 'c') throw broken(`no ${place.node}`)
    await new Promise((resolve) => setImmediate(resolve))
    ended = true
  })
  await expect(work).rejects.toMatchObject({
    code: 'build_failed',
    what: 'on a: no a',
    next: 'mend it\nc has a finished one, which waits for that: the next run builds only what is missing',
  })
  expect(ended).toBe(true)
  expect(b.events).toContainEqual({ type: 'warning', image: b.image.name, message: 'no b' })
})

test('of a target with one node the error stays as it is', async () => {
  const error = broken('no')
  await expect(onEach([a], () => Promise.reject(error))).rejects.toBe(error)
})

test('what an earlier run has finished on some nodes is told', () => {
  const candidate = { node: 'a', marks: { version: '20260101.1' } } as Template
  tellWhatIsThere([a, b, c], new Map([[a, { candidate }]]))
  const message = '20260101.1 is finished on a: building it on b, c'
  expect(a.events).toContainEqual({ type: 'info', image: a.image.name, message })
})
