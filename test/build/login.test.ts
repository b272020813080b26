import { expect, test } from 'vitest'
import type { BuildGuest } from '../../src/build/guest.ts'
import { logIn } from '../../src/build/login.ts'
import { imageSpec, WHERE } from '../plan/spec.ts'
import { aBuild } from './world.ts'

/** A machine at an address of the loopback network where nothing listens. */
function machine(status: 'running' | 'stopped', address: string | undefined): BuildGuest {
  const key = {
    privateKey: 'PRIVATE',
    publicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f x',
  }
  return {
    guest: {
      vmid: 9000,
      node: 'pve',
      status: async () => ({ status, uptime: 0, netin: 0, netout: 0 }),
      agentAnswers: async () => false,
      addresses: async () => undefined,
    },
    access: { user: 'imagebuild', userKey: key, hostKey: key },
    identity: { mac: '02:1B:00:00:00:01', ...(address !== undefined && { address }) },
    // Blank lines, of which there are many, take no place of those that say something.
    console: { recorded: { lines: ['Kernel panic - not syncing', ...Array(30).fill(' ')] } },
  } as unknown as BuildGuest
}

const image = (bootTimeout: number) => imageSpec({ build: { bootTimeout, timeout: 7200 } })

test.each([
  ['with a known address', '127.99.0.1'],
  ['by DHCP', undefined],
])('a guest that stops while it boots is not waited for, %s', async (_how, address) => {
  const build = aBuild({ image: image(900) })
  const error = await logIn(build, machine('stopped', address)).catch((error) => error)
  expect(error).toMatchObject({
    code: 'build_failed',
    what: 'the guest of web stopped before anybody could log in',
    where: WHERE,
    output: ['Kernel panic - not syncing'],
  })
  expect(error.why).toContain('the guest is stopped')
})

test('one that runs is, for its time', async () => {
  const build = aBuild({ image: image(0.3) })
  const error = await logIn(build, machine('running', '127.99.0.1')).catch((error) => error)
  expect(error.what).toBe('nobody could log in to the guest of web within 0.3 s')
  expect(error.why).toContain('port 22')
})
