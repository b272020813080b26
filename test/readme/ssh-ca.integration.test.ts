import { mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { block } from './blocks.ts'
import { type Reader, reader } from './home.ts'

/** What the documents say of `ssh-ca`, typed as it stands there: a passphrase comes from a variable instead of a terminal. */

let me: Reader
let agent: { SSH_AUTH_SOCK: string; SSH_AGENT_PID: string }
const PASSPHRASE = { CA_PASSPHRASE: 'correct horse', IMAGEBUILD_PASSPHRASE: 'env:CA_PASSPHRASE' }

beforeAll(async () => {
  me = await reader()
  await mkdir(join(me.home, '.ssh'), { mode: 0o700 })
  const key = join(me.home, '.ssh/id_ed25519')
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'me', '-f', key])
  const { stdout } = await execa('ssh-agent', ['-s'])
  const value = (name: string) => new RegExp(`${name}=([^;]+)`).exec(stdout)?.[1] ?? ''
  agent = { SSH_AUTH_SOCK: value('SSH_AUTH_SOCK'), SSH_AGENT_PID: value('SSH_AGENT_PID') }
})
afterAll(async () => {
  if (agent !== undefined) process.kill(Number(agent.SSH_AGENT_PID))
  await me[Symbol.asyncDispose]()
})

async function typed(lines: string, env: Readonly<Record<string, string>> = PASSPHRASE): Promise<string> {
  const { exitCode, stdout, stderr } = await me.types(lines, env)
  expect(exitCode, stderr).toBe(0)
  return stdout
}

const certificate = async () =>
  (await execa('ssh-keygen', ['-Lf', join(me.home, '.ssh/id_ed25519-cert.pub')])).stdout

test('README: a CA is made, and a key certified for eight hours', async () => {
  await typed(block('README.md', './imagebuild ssh-ca init').text)
  expect((await stat(join(me.folder, 'ssh-ca'))).mode & 0o777).toBe(0o700)
  const lines = await certificate()
  expect(lines).toMatch(/Principals:\s+debian\s/)
  const [, from = '', to = ''] = /Valid: from (\S+) to (\S+)/.exec(lines) ?? []
  // OpenSSH lets it begin a little earlier, for clocks that are late.
  expect((Date.parse(to) - Date.parse(from)) / 3600_000).toBeGreaterThanOrEqual(8)
  expect((Date.parse(to) - Date.parse(from)) / 3600_000).toBeLessThan(9)
})

test('the CA that is there stays, and is shown', async () => {
  const [init = '', show = ''] = block('docs/ssh-certificates.md', './imagebuild ssh-ca init').text.split(
    '\n',
  )
  const again = await me.types(init, PASSPHRASE)
  expect(again.exitCode).not.toBe(0)
  expect(await typed(show)).toContain('SHA256:')
})

test('ssh-agent gets the keys for a while, and signs with them', async () => {
  const { text } = block('docs/ssh-certificates.md', 'ssh-add -t 8h')
  // ssh-add asks a program where there is no terminal.
  await me.write({ 'ask.sh': '#!/bin/sh\necho "$CA_PASSPHRASE"\n' })
  await typed(`chmod +x ask.sh\n${text}`, {
    ...{ ...agent, ...PASSPHRASE, SSH_ASKPASS: './ask.sh', SSH_ASKPASS_REQUIRE: 'force' },
  })
  const sign = './imagebuild ssh-ca sign-user ~/.ssh/id_ed25519.pub --principal root'
  await typed(sign, agent)
  expect(await certificate()).toMatch(/Principals:\s+root\s/)
})

test('clients learn whom to believe, and a clone gets a host key', async () => {
  await typed(block('docs/ssh-certificates.md', './imagebuild ssh-ca known-hosts').text)
  expect(await readFile(join(me.home, '.ssh/known_hosts'), 'utf8')).toContain(
    '@cert-authority *.home.example,192.0.2.* ',
  )
  const seed = join(me.folder, 'web1.yaml')
  expect((await stat(seed)).mode & 0o777).toBe(0o600)
  expect(await readFile(seed, 'utf8')).toMatch(/^#cloud-config\n/)
})

test('a certificate is revoked', async () => {
  const revoked = await typed(block('docs/ssh-certificates.md', './imagebuild ssh-ca revoke').text)
  expect(revoked).toMatch(/^revoked certificate \d+ /)
  const asked = ['-Qf', join(me.folder, 'ssh-ca/revoked.krl'), join(me.home, '.ssh/id_ed25519-cert.pub')]
  expect((await execa('ssh-keygen', asked, { reject: false })).stdout).toContain('REVOKED')
})

test('keys are rotated and retired; there are no images here that would be built anew', async () => {
  const { text } = block('docs/ssh-certificates.md', './imagebuild ssh-ca rotate')
  const lines = text.replace('./imagebuild run --all\n', './imagebuild validate\n')
  expect(lines).not.toBe(text)
  expect(await typed(lines)).toContain('generation 1 is trusted no more')
})
