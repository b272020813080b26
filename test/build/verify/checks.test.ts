import { chmod, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { hostname, tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { compileChecks, runChecks } from '../../../src/build/verify/checks.ts'
import { judge } from '../../../src/build/verify/judge.ts'
import type { Check, Question } from '../../../src/definition/check.ts'
import { THIS_MACHINE } from './machine.ts'

/** Checks asked of this machine, by the very script that clones get. */
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-checks-'))
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

const check = (question: Question, id = 'it'): Check => ({
  id,
  title: 'a title',
  sources: ['a source'],
  ...question,
})

/** What was found; undefined: passed. */
async function ask(question: Question, seconds?: number): Promise<string | undefined> {
  const [result] = await runChecks(THIS_MACHINE, [check(question)], { ...(seconds && { seconds }) })
  expect(result?.outcome).toBe(result?.found === undefined ? 'passed' : 'failed')
  return result?.found
}

describe('a command', () => {
  test.each([
    [{ command: 'exit 3', exit: 3 }, undefined],
    [{ command: 'printf "one\\ntwo\\n"', exit: 0, output: '^two$' }, undefined],
    [{ command: 'echo no', exit: 0, output: '^yes$' }, 'it printed, instead of /^yes$/:\nno'],
    [{ command: 'true', exit: 0, output: 'yes' }, 'it printed nothing, instead of /yes/'],
    [{ command: 'echo why >&2; exit 1', exit: 0 }, 'exit code 1 instead of 0:\nwhy'],
    [{ command: 'printf \'%s\' "it\'s" | grep -q "it\'s"', exit: 0 }, undefined],
    [{ command: 'cat; echo end', exit: 0, output: '^end$' }, undefined],
    [{ command: 'exit 124', exit: 124 }, undefined],
    [{ command: 'printf "one\\ntwo\\n"', exit: 0, lacks: '^three$' }, undefined],
    [{ command: 'printf "one\\ntwo\\n"', exit: 0, lacks: '^tw' }, 'it printed:\ntwo'],
  ])('%j: %j', async (question, found) => {
    expect(await ask({ kind: 'command', ...question })).toBe(found)
  })

  test('has the seconds that it asks for', async () => {
    const patient = { kind: 'command', command: 'sleep 2', exit: 0, seconds: 20 } as const
    const results = await runChecks(THIS_MACHINE, [check(patient)], { seconds: 1 })
    expect(results.map(({ outcome, found }) => [outcome, found])).toEqual([['passed', undefined]])
    const { seconds: _, ...hasty } = patient
    expect(compileChecks([check(hasty), check(patient)])).toMatch(/^ask 0 60 'sleep 2'$/m)
    expect(compileChecks([check({ ...patient, seconds: 300 })])).toMatch(/^ask 0 300 /m)
  })

  test('that does not end is cut off, and the next is asked', async () => {
    const asked = [
      check({ kind: 'command', command: 'sleep 60', exit: 0 }, 'slow'),
      check({ kind: 'command', command: 'true', exit: 0 }, 'quick'),
    ]
    const results = await runChecks(THIS_MACHINE, asked, { seconds: 1 })
    expect(results.map(({ id, outcome, found }) => [id, outcome, found])).toEqual([
      ['slow', 'failed', 'no answer within 1 s'],
      ['quick', 'passed', undefined],
    ])
  })

  test('that leaves something running, or prints a lot, is done when it is done', async () => {
    expect(
      await ask({ kind: 'command', command: 'sleep 60 & echo ok', exit: 0, output: 'ok' }, 10),
    ).toBeUndefined()
    expect(
      await ask({ kind: 'command', command: 'yes | head -n 1000000', exit: 0, output: 'y' }),
    ).toBeUndefined()
  })
})

test('a file', async () => {
  const path = join(folder, 'it’s a file')
  await writeFile(path, 'first\nPermitRootLogin no\n')
  await chmod(path, 0o640)
  const { username, gid } = userInfo()
  const group = (await execa('id', ['-gn'])).stdout
  const file = (rest: object) => ask({ kind: 'file', path, present: true, ...rest })
  expect(gid).toBeTypeOf('number')
  expect(await file({ mode: '0640', owner: `${username}:${group}` })).toBeUndefined()
  expect(await file({ mode: '0755', contains: '^PermitRootLogin no$', lacks: 'yes' })).toBeUndefined()
  expect(await file({ mode: '0600' })).toBe(`${path}: its mode is 0640, more than 0600`)
  expect(await file({ owner: 'nobody:nogroup' })).toBe(
    `${path}: it belongs to ${username}:${group}, not to nobody:nogroup`,
  )
  expect(await file({ contains: 'missing', lacks: '^first' })).toBe(
    `${path}: it does not contain /missing/; it contains "first"`,
  )
  expect(await ask({ kind: 'file', path, present: false })).toBe(`${path} is there`)
  expect(await ask({ kind: 'file', path: `${path}s`, present: true, mode: '0777' })).toBe(
    `${path}s is not there`,
  )
  expect(await ask({ kind: 'file', path: `${path}s`, present: false })).toBeUndefined()
  expect(await ask({ kind: 'file', path: `${path}s`, mode: '0600' })).toBeUndefined()
  expect(await ask({ kind: 'file', path, mode: '0600' })).toBe(`${path}: its mode is 0640, more than 0600`)
  const link = join(folder, 'dangling')
  await symlink('/nowhere', link)
  expect(await ask({ kind: 'file', path: link, present: false })).toBe(`${link} is there`)
  expect(await ask({ kind: 'file', path: link, present: true })).toContain('cannot be looked at')
  expect(await ask({ kind: 'file', path: folder, present: true, mode: '0700' })).toBeUndefined()
  expect(await ask({ kind: 'file', path: folder, present: true, contains: 'x' })).toContain(
    'no file with content',
  )
})

test('a package', async () => {
  const ask1 = (name: string, installed: boolean) => ask({ kind: 'package', package: name, installed })
  expect(await ask1('base-files', true)).toBeUndefined()
  expect(await ask1('base-files', false)).toMatch(/^base-files \S+ is installed$/)
  expect(await ask1('no-such-package', false)).toBeUndefined()
  expect(await ask1('no-such-package', true)).toBe('no-such-package is not installed')
})

test('a kernel parameter', async () => {
  expect(await ask({ kind: 'sysctl', key: 'kernel.hostname', value: hostname() })).toBeUndefined()
  expect(await ask({ kind: 'sysctl', key: 'kernel.hostname', value: 'another' })).toBe(
    `kernel.hostname is ${hostname()}, not another`,
  )
  expect(await ask({ kind: 'sysctl', key: 'net/ipv4/conf/lo/no_such', value: '0' })).toContain(
    'cannot be read',
  )
  const { stdout } = await execa('cat', ['/proc/sys/net/ipv4/ip_local_port_range'])
  const value = stdout.replace('\t', ' ')
  expect(await ask({ kind: 'sysctl', key: 'net.ipv4.ip_local_port_range', value })).toBeUndefined()
})

test('a port', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  const listens = (listening: boolean) => ask({ kind: 'port', port, protocol: 'tcp', listening })
  expect(await listens(true)).toBeUndefined()
  expect(await listens(false)).toBe(`127.0.0.1 listens on tcp port ${port}`)
  await new Promise((resolve) => server.close(resolve))
  expect(await listens(true)).toBe(`nobody listens on tcp port ${port}`)
  expect(await ask({ kind: 'port', port, protocol: 'udp', listening: false })).toBeUndefined()
})

test('a setting of sshd: one of its values must fit as a whole', () => {
  const stdout = 'port 22\nmaxauthtries 4\nacceptenv LANG\nacceptenv LC_*\nbanner none\n'
  const sshd = (keyword: string, value: string) =>
    judge(check({ kind: 'sshd', keyword, value }), { code: 0, stdout, stderr: '' }, 60)
  expect(sshd('maxauthtries', '[1-4]')).toBeUndefined()
  expect(sshd('acceptenv', 'LC_\\*')).toBeUndefined()
  expect(sshd('acceptenv', 'LC')).toBe('acceptenv is LANG | LC_*')
  expect(sshd('ban', '.*')).toBe('sshd has no ban')
  const broken = {
    code: 255,
    stdout: '',
    stderr: '/etc/ssh/sshd_config line 3: Bad configuration option: x\n',
  }
  expect(judge(check({ kind: 'sshd', keyword: 'port', value: '22' }), broken, 60)).toBe(
    'sshd -T failed:\n/etc/ssh/sshd_config line 3: Bad configuration option: x',
  )
})

test.each([
  ['active', 'active', '', undefined],
  ['active', 'activating', '', 'cron.service is activating, not active'],
  ['inactive', 'inactive', '', undefined],
  ['inactive', 'failed', '', 'cron.service is failed, not inactive'],
  ['enabled', 'static', '', 'cron.service is static, not enabled'],
  ['disabled', '', 'Failed to get unit file state for cron.service: No such file or directory', undefined],
  [
    'enabled',
    '',
    'Failed to get unit file state for cron.service: No such file or directory',
    'cron.service is not there, not enabled',
  ],
  ['masked', 'masked', '', undefined],
  ['disabled', '', 'Failed to connect to bus', 'systemd cannot be asked:\nFailed to connect to bus'],
] as const)('a service that must be %s and is %j (%j): %j', (state, stdout, stderr, found) => {
  const asked = check({ kind: 'service', unit: 'cron.service', state })
  expect(judge(asked, { code: 1, stdout: `${stdout}\n`, stderr }, 60)).toBe(found)
})

test('answers of any size and kind come back whole, each to its check', async () => {
  const big = { kind: 'command', command: 'yes | head -c 3000000; echo end >&2', exit: 0 } as const
  const asked = [
    check({ ...big, lacks: 'n' }, 'big'),
    check(
      { kind: 'command', command: 'printf "\\000\\377ü\\n\\n"; printf %05000d 7 >&2; exit 1', exit: 0 },
      'bytes',
    ),
    check({ kind: 'command', command: 'true', exit: 0, output: 'x' }, 'empty'),
    ...Array.from({ length: 12 }, (_, n) =>
      check({ kind: 'command', command: `echo "it is ${n}"`, exit: 0, output: `^it is ${n}$` }, `${n}`),
    ),
  ]
  const results = await runChecks(THIS_MACHINE, asked)
  expect(results.map(({ id, found }) => [id, found?.slice(0, 60)])).toEqual([
    ['big', undefined],
    ['bytes', expect.stringMatching(/^exit code 1 instead of 0:\n0+7?$/)],
    ['empty', 'it printed nothing, instead of /x/'],
    ...Array.from({ length: 12 }, (_, n) => [`${n}`, undefined]),
  ])
})

test('what a check has left running changes no answer of another', async () => {
  const writer = '(while :; do echo noise; done) & sleep 0.2; kill -0 $! && echo $! > pid'
  const pid = join(folder, 'pid')
  const asked = [
    check({ kind: 'command', command: writer.replace('> pid', `> ${pid}`), exit: 0 }, 'writer'),
    check({ kind: 'command', command: 'echo right', exit: 0, output: '^right$', lacks: 'noise' }, 'next'),
  ]
  const results = await runChecks(THIS_MACHINE, asked)
  process.kill(Number(await readFile(pid, 'utf8')), 'SIGKILL')
  expect(results.map(({ id, found }) => [id, found])).toEqual([
    ['writer', undefined],
    ['next', undefined],
  ])
})

test('a file that nobody can read to its end hangs nothing', async () => {
  const pipe = join(folder, 'pipe')
  await execa('mkfifo', [pipe])
  const asked = [
    check({ kind: 'file', path: pipe, present: true, contains: 'x' }, 'pipe'),
    check({ kind: 'package', package: 'base-files', installed: true }, 'after'),
  ]
  const results = await runChecks(THIS_MACHINE, asked)
  expect(results.map(({ id, found }) => [id, found])).toEqual([
    ['pipe', `${pipe}: it is a fifo, no file with content`],
    ['after', undefined],
  ])
})

test('checks with one probe ask once', () => {
  const sshd = (keyword: string) => check({ kind: 'sshd', keyword, value: 'no' }, keyword)
  const script = compileChecks([sshd('permitrootlogin'), sshd('passwordauthentication')])
  expect(script.match(/^(ask|look) \d/gm)).toHaveLength(1)
})

test('results name the check, its sources and its line', async () => {
  const where = { file: 'images/web/image.yaml', line: 12, column: 5 }
  const asked = [{ ...check({ kind: 'command', command: 'false', exit: 0 }), where }]
  expect(await runChecks(THIS_MACHINE, asked)).toEqual([
    {
      ...{ group: 'checks', id: 'it', title: 'a title', sources: ['a source'], where },
      ...{ outcome: 'failed', found: 'exit code 1 instead of 0' },
    },
  ])
})
