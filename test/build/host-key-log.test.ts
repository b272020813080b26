import { expect, test } from 'vitest'
import { HostKeyLog } from '../../src/build/host-key-log.ts'

const ED25519 = `SHA256:${'e'.repeat(43)}`
const RSA = `SHA256:${'r'.repeat(43)}`

const made = (file: string, fingerprint: string) => [
  `Creating SSH host key '${file}' - this may take some time ...`,
  `done: ${fingerprint} root@web`,
]

const read = (lines: string[]) => {
  const log = new HostKeyLog()
  for (const line of lines) log.read(line)
  return log.fingerprint
}

test('the Ed25519 key is found among the others, in whatever order Proxmox makes them', () => {
  const ecdsa = made('ssh_host_ecdsa_key', `SHA256:${'c'.repeat(43)}`)
  const rsa = made('ssh_host_rsa_key', RSA)
  const ed25519 = made('ssh_host_ed25519_key', ED25519)
  expect(read(['Detected container architecture: amd64', ...rsa, ...ed25519, ...ecdsa, 'TASK OK'])).toBe(
    ED25519,
  )
  expect(read([...ed25519, ...rsa])).toBe(ED25519)
})

test('a log without it, or with something else in its place, gives none', () => {
  expect(read(['extracting archive', 'TASK OK'])).toBeUndefined()
  expect(read(made('ssh_host_rsa_key', RSA))).toBeUndefined()
  expect(read([`done: ${ED25519} root@web`])).toBeUndefined()
  expect(read(made('ssh_host_ed25519_key', 'SHA256:short'))).toBeUndefined()
})
