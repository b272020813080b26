import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runChecks } from '../../src/build/verify/checks.ts'
import { expandHardening } from '../../src/hardening/expand.ts'
import { intoMainFile, sshdMainFile } from '../../src/hardening/items/sshd-main-file.ts'
import { THIS_MACHINE } from '../build/verify/machine.ts'

const SETTINGS = { PasswordAuthentication: 'no', MaxAuthTries: 4 }
const MATCH =
  'Match User backup\nPasswordAuthentication yes\n  MaxAuthTries 9\nInclude /etc/ssh/backup.conf\n'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-main-file-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** What the script makes of a file when it runs twice, as it may. */
async function rewritten(content: string, ...rounds: Readonly<Record<string, string | number>>[]) {
  const file = join(folder, 'sshd_config')
  await writeFile(file, content)
  for (const settings of rounds) {
    for (const _ of ['once', 'again']) {
      await execa('sh', ['-eu'], { input: intoMainFile(settings, file) })
    }
  }
  return await readFile(file, 'utf8')
}

const directives = (text: string) => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))

test('settings go behind the line that includes the drop-ins, once, and instead of others', async () => {
  const text = await rewritten(
    `# Ours\nInclude /etc/ssh/sshd_config.d/*.conf\nPort 22\n maxauthtries 6\nPasswordAuthentication yes\n${MATCH}`,
    SETTINGS,
  )
  expect(directives(text)).toEqual([
    'Include /etc/ssh/sshd_config.d/*.conf',
    'PasswordAuthentication no',
    'MaxAuthTries 4',
    'Port 22',
    ...directives(MATCH),
  ])
  expect(text.endsWith(MATCH)).toBe(true)
})

test('without such a line they go to the top, not into a Match', async () => {
  expect(directives(await rewritten(`Port 22\n${MATCH}`, SETTINGS))).toEqual([
    'PasswordAuthentication no',
    'MaxAuthTries 4',
    'Port 22',
    ...directives(MATCH),
  ])
})

test('what an item of the parent image wrote goes with the item, and nothing else', async () => {
  expect(await rewritten(`Port 22\n${MATCH}`, SETTINGS, {})).toBe(`Port 22\n${MATCH}`)
})

test('a real sshd has them for everybody, and the others for whom they match', async () => {
  const key = join(folder, 'key')
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
  await rewritten(`HostKey ${key}\nPasswordAuthentication yes\n${MATCH.replace(/Include.*\n/, '')}`, SETTINGS)
  await execa('mkdir', ['-p', '/run/sshd'])
  const ask = async (user: string) => {
    const who = `user=${user},host=h,addr=192.0.2.1`
    const { stdout } = await execa('/usr/sbin/sshd', ['-T', '-C', who, '-f', join(folder, 'sshd_config')])
    return stdout.split('\n').filter((line) => /^(passwordauthentication|maxauthtries) /.test(line))
  }
  expect((await ask('root')).sort()).toEqual(['maxauthtries 4', 'passwordauthentication no'])
  expect((await ask('backup')).sort()).toEqual(['maxauthtries 9', 'passwordauthentication yes'])
})

test('the checks pass on what the script makes, and find what is added to it', async () => {
  const item = sshdMainFile(() => ({ 'sshd-limits': SETTINGS }))
  const file = join(folder, 'sshd_config')
  const vm = { kind: 'vm', unprivileged: false, containerHost: false, postQuantum: false } as const
  const outcomes = async (applied: readonly string[]) => {
    const asked = typeof item.checks === 'function' ? item.checks(vm, new Set(applied)) : item.checks
    const checks = asked.map((one, n) => {
      if (one.kind !== 'command') throw new Error(one.kind)
      const command = one.command.replaceAll('/etc/ssh/sshd_config', file)
      return { id: `${n}`, sources: [], title: '', ...one, command }
    })
    return (await runChecks(THIS_MACHINE, checks)).map(({ outcome }) => outcome)
  }
  const text = await rewritten(`Port 22\n${MATCH}`, SETTINGS)
  expect(await outcomes(['sshd-limits'])).toEqual(['passed', 'passed'])
  expect(await outcomes([])).toEqual(['failed'])
  await writeFile(file, ` MaxAuthTries 9\n${text}`)
  expect(await outcomes(['sshd-limits'])).toEqual(['passed', 'failed'])
  await writeFile(file, MATCH)
  expect(await outcomes(['sshd-limits'])).toEqual(['failed', 'failed'])
  expect(await outcomes([])).toEqual(['passed'])
})

test('only settings of applied items are written and asked for', () => {
  const where = { file: 'image.yaml', line: 1, column: 1 }
  const vm = { kind: 'vm', unprivileged: false, containerHost: false, postQuantum: false } as const
  const of = (...excepted: string[]) => {
    const except = Object.fromEntries(excepted.map((id) => [id, 'because']))
    const { layers, checks } = expandHardening({ profile: 'cis-l1', except, where }, vm)
    const scripts = layers.map((layer) =>
      layer.kind === 'shell' ? Buffer.from(layer.script).toString() : '',
    )
    const [, script] = /echo 'item sshd-main-file'\n([\s\S]*?)\n\)\n/.exec(scripts.join('')) ?? []
    const asked = checks.filter(({ id }) => id.startsWith('sshd-main-file')).map(({ title }) => title)
    return { script: script ?? '', asked }
  }
  expect(of().script).toContain('\nMaxAuthTries 4\n')
  expect(of().asked).toContain('MaxAuthTries stands there')
  const without = of('sshd-limits')
  expect(without.script).not.toContain('MaxAuthTries')
  expect(without.script).toContain('\nPasswordAuthentication no\n')
  expect(without.asked.filter((title) => /MaxAuthTries/.test(title))).toEqual([])
  const none = of('sshd-login', 'sshd-limits', 'sshd-algorithms')
  expect(none.script).not.toMatch(/cat|Ciphers/)
  expect(none.asked).toHaveLength(1)
})
