import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeProject } from './harness.ts'
import { type SlowRouter, slowRouter } from './slow-router.ts'

/** Who builds are on the network, where it depends on real links and real labs. */

test('the same definition in two lab folders has the same MACs and addresses', async () => {
  await using project = await makeProject({
    'images/web/image.yaml': 'name: web\nsource: { release: debian/12 }\n',
  })
  const shown: unknown[] = []
  for (const name of ['one', 'two']) {
    const folder = await mkdtemp(join(tmpdir(), `imagebuild-e2e-${name}-`))
    const env = { IMAGEBUILD_LAB_DIR: folder }
    try {
      const { exitCode, stdout, stderr } = await project.imagebuild(['show', 'web', '--json'], { env })
      expect(exitCode, stderr).toBe(0)
      shown.push((JSON.parse(stdout) as { identity: unknown }).identity)
    } finally {
      // Two labs that run at once cannot have the same network.
      await project.imagebuild(['lab', 'stop'], { env })
      await rm(folder, { recursive: true, force: true })
    }
  }
  expect(shown[0]).toHaveLength(3)
  expect(shown[1]).toEqual(shown[0])
})

describe('whether somebody answers at an address', () => {
  const resources = new AsyncDisposableStack()
  const GUEST = `ibarp${process.pid}-answers`
  const MAC = '02:1B:00:00:00:07'
  let network: SlowRouter

  beforeAll(async () => {
    network = resources.use(await slowRouter())
    await network.run('lan', 'ip', 'address', 'add', '10.86.0.2/24', 'dev', 'br0')
    await execa('ip', ['netns', 'add', GUEST])
    resources.defer(async () => void (await execa('ip', ['netns', 'delete', GUEST])))
    const { card } = await network.plug(MAC)
    await network.run('lan', 'ip', 'link', 'set', card, 'netns', GUEST, 'name', 'eth0')
    await guest('ip', 'link', 'set', 'eth0', 'up')
    // A guest that lets nothing in: only ARP gets an answer.
    await guest('nft', 'add table ip f { chain input { type filter hook input priority 0; policy drop; } ; }')
  })
  afterAll(() => resources.disposeAsync())

  const guest = (...command: string[]) => execa('ip', ['netns', 'exec', GUEST, ...command])
  const module = new URL('../../src/build/probe.ts', import.meta.url).href
  const PROGRAM = `
    import { probeAddress } from '${module}'
    const answer = await probeAddress(process.argv[1], new AbortController().signal)
    console.log(JSON.stringify({ answer: answer ?? null }))`

  async function probe(address: string, ...as: string[]) {
    const node = [process.execPath, '--input-type=module', '-e', PROGRAM, address]
    const { stdout, stderr } = await network.run('lan', ...as, ...node)
    expect(stdout, stderr).not.toBe('')
    return JSON.parse(stdout) as { answer: unknown }
  }
  const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
  const occupied = (address: string) => guest('ip', 'address', 'add', `${address}/24`, 'dev', 'eth0')
  const entry = (address: string, state: string) =>
    network.run('lan', 'ip', 'neigh', 'replace', address, 'lladdr', MAC, 'nud', state, 'dev', 'br0')

  describe.each([
    ['root', []],
    ['an ordinary user', NOBODY],
  ])('asked by %s', (who, as) => {
    test('nobody', async () => {
      expect(await probe('10.86.0.30', ...as)).toEqual({ answer: null })
    })

    test('a guest that lets no packet in, by its MAC', async () => {
      const address = who === 'root' ? '10.86.0.31' : '10.86.0.32'
      await occupied(address)
      expect(await probe(address, ...as)).toMatchObject({ answer: { by: 'ARP', mac: MAC } })
    })

    test.each(['reachable', 'stale', 'delay'])(
      'nobody, although the kernel remembers the guest that was there (%s)',
      async (state) => {
        await entry('10.86.0.33', state)
        expect(await probe('10.86.0.33', ...as)).toMatchObject({ answer: null })
      },
    )

    test('the machine that asks', async () => {
      expect(await probe('10.86.0.2', ...as)).toMatchObject({ answer: { by: 'this machine' } })
    })
  })

  test('an entry that an administrator wrote stays', async () => {
    await entry('10.86.0.34', 'permanent')
    expect(await probe('10.86.0.34')).toMatchObject({ answer: null })
    expect((await network.run('lan', 'ip', 'neigh', 'show', '10.86.0.34')).stdout).toContain('PERMANENT')
  })
})
