import { chmod, mkdir, mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { inspect } from 'node:util'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Provisioning } from '../../src/build/layer-run.ts'
import { packagesScript, provisionFirst } from '../../src/build/packages-layer.ts'
import { demandSecrets, provision, scriptCommand } from '../../src/build/provision.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import { createBus, type Event } from '../../src/core/events.ts'
import { DeadlineError } from '../../src/core/scope.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'
import type { Layer } from '../../src/definition/spec.ts'
import { bytes, fileLayer, packagesLayer, shellLayer, WHERE } from '../plan/spec.ts'
import { FakeSession } from './world.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'imagebuild-provision-'))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(folder, { recursive: true })
})

async function executable(name: string, text: string): Promise<void> {
  await mkdir(join(folder, 'bin'), { recursive: true })
  await writeFile(join(folder, 'bin', name), `#!/bin/sh\n${text}\n`)
  await chmod(join(folder, 'bin', name), 0o755)
}

describe('the script of a packages layer, run by sh', () => {
  /** `apt-get` writes down how it was called; `sleep` does not sleep. */
  async function run(change: Parameters<typeof packagesLayer>[0], aptGet = '') {
    await mkdir(join(folder, 'etc/apt'), { recursive: true })
    await mkdir(join(folder, 'run'), { recursive: true })
    const log = join(folder, 'log')
    await executable('apt-get', `echo "$DEBIAN_FRONTEND $LC_ALL $*" >> ${log}\n${aptGet}`)
    await executable('sleep', 'exit 0')
    const script = packagesScript(packagesLayer(change))
      .replaceAll('/run/', `${folder}/run/`)
      .replaceAll('/etc/apt', `${folder}/etc/apt`)
    const { exitCode, stderr } = await execa('/bin/sh', ['-c', script], {
      reject: false,
      env: { PATH: `${folder}/bin:${process.env.PATH}` },
    })
    const calls = (await readFile(log, 'utf8').catch(() => '')).trim().split('\n')
    await rm(log, { force: true })
    // What was asked of it, without its options.
    const asked = calls.map((line) =>
      line.replace(/^.*Dpkg::Options::=--force-confold /, '').replaceAll(/-o \S+ /g, ''),
    )
    return { exitCode, stderr, calls, asked }
  }

  test('updates, upgrades, removes and installs, in this order, asking nobody', async () => {
    const { exitCode, asked, calls, stderr } = await run({
      install: ['nginx', 'curl=7.88'],
      remove: ['vim-tiny'],
      upgrade: true,
    })
    expect(stderr).toBe('')
    expect(exitCode).toBe(0)
    expect(asked).toEqual([
      'update',
      'full-upgrade',
      'purge --autoremove vim-tiny',
      '--no-install-recommends install nginx curl=7.88',
    ])
    for (const call of calls)
      expect(call).toMatch(/^noninteractive C\.UTF-8 -q -y -o DPkg::Lock::Timeout=600 /)
  })

  test('updates once, and again only when the sources have changed', async () => {
    expect((await run({})).asked).toEqual(['update', '--no-install-recommends install nginx'])
    expect((await run({})).asked).toEqual(['--no-install-recommends install nginx'])
    const list = join(folder, 'etc/apt/sources.list')
    await writeFile(list, 'deb …')
    await utimes(list, Date.now() / 1000 + 5, Date.now() / 1000 + 5)
    expect((await run({ upgrade: true, install: [] })).asked).toEqual(['update', 'full-upgrade'])
  })

  test('tries again when a mirror has a hiccup', async () => {
    const { exitCode, asked } = await run(
      {},
      `case "$*" in *update) n=$(cat ${folder}/n 2>/dev/null); echo "x$n" > ${folder}/n; [ "$n" = xx ] ;; esac`,
    )
    expect(exitCode).toBe(0)
    expect(asked).toEqual(['update', 'update', 'update', '--no-install-recommends install nginx'])
  })

  test('gives up on a mirror that stays away, and installs nothing', async () => {
    const { exitCode, asked } = await run({}, 'exit 100')
    expect(exitCode).toBe(100)
    expect(asked).toEqual(['update', 'update', 'update', 'update', 'update'])
  })

  test('installs nothing after an upgrade that failed', async () => {
    const { exitCode, asked } = await run({ upgrade: true }, 'case "$*" in *full-upgrade) exit 7 ;; esac')
    expect(exitCode).toBe(7)
    expect(asked).toEqual(['update', 'full-upgrade'])
  })
})

describe('the command that takes a script and runs it, run by sh', () => {
  async function run(script: string, user = 'root', input = script) {
    const path = join(folder, 'script')
    // As where /tmp is mounted noexec, nothing that lies there can be run by its name.
    await executable('chmod', 'shift; exec /bin/chmod 0600 "$@"')
    const command = scriptCommand({ script: bytes(script), user }, path)
    const result = await execa('/bin/sh', ['-c', command], {
      reject: false,
      input,
      env: { GREETING: 'hello', PATH: `${folder}/bin:${process.env.PATH}` },
    })
    return {
      ...result,
      gone: await readFile(path).then(
        () => false,
        () => true,
      ),
    }
  }

  test('removes the script, and gives its exit code', async () => {
    expect(await run('exit 3\n')).toMatchObject({ exitCode: 3, gone: true })
    expect(await run('echo "$GREETING"\n')).toMatchObject({ exitCode: 0, stdout: 'hello', gone: true })
  })

  test('runs nothing of a script that arrives in part', async () => {
    const cut = await run('echo one\necho two\n', 'root', 'echo one\n')
    expect(cut).toMatchObject({ exitCode: 255, stdout: '', gone: true })
    expect(cut.stderr).toContain('did not arrive whole')
  })

  test('writes over nothing that is there', async () => {
    const path = join(folder, 'script')
    await writeFile(path, 'echo mine\n')
    const command = scriptCommand({ script: bytes('echo new\n'), user: 'root' }, path)
    const { exitCode, stdout } = await execa('/bin/sh', ['-c', command], {
      reject: false,
      input: 'echo new\n',
    })
    expect([exitCode === 0, stdout]).toEqual([false, ''])
  })

  test('stops at the first command that fails, and at a variable that is not set', async () => {
    expect(await run('false\necho on\n')).toMatchObject({ exitCode: 1, stdout: '' })
    expect((await run('echo "$NO_SUCH"; echo on\n')).exitCode).toBe(2)
  })

  test('takes the interpreter of the first line, with its argument', async () => {
    expect(await run('#!/bin/bash\nfalse\n[[ -n $BASH_VERSION ]] && echo bash\n')).toMatchObject({
      exitCode: 0,
      stdout: 'bash',
    })
    expect((await run('#! /usr/bin/env -S bash -e\nfalse\necho on\n')).exitCode).toBe(1)
    expect(await run('#!/usr/bin/env node\nconsole.log(1 + 1)\n')).toMatchObject({ stdout: '2' })
  })

  test('becomes another user, with that user’s home and the layer’s environment', async () => {
    await executable('runuser', 'echo "$HOME $*"; shift 3; exec "$@"')
    await executable('chown', 'exit 0')
    await executable(
      'getent',
      '[ "$*" = "passwd builder" ] && echo builder:x:1000:1000::/home/builder:/bin/sh',
    )
    const { stdout, gone } = await run('echo "$HOME $GREETING"\n', 'builder')
    expect(stdout).toBe(`/home/builder -u builder -- /bin/sh -eu ${folder}/script\n/home/builder hello`)
    expect(gone).toBe(true)
    expect(userInfo().homedir).not.toBe('/home/builder')
  })
})

function provisioning(session: FakeSession): Provisioning {
  const secrets = new SecretRegistry()
  return { session, secrets, image: 'web', signal: new AbortController().signal, emit: () => {} }
}

describe('a layer', () => {
  const controller = () => new AbortController()
  async function apply(layer: Layer, session: FakeSession, signal = controller().signal) {
    const secrets = new SecretRegistry()
    const events: Event[] = []
    const emit = createBus(secrets, [(event) => events.push(event)])
    const error = await provision(layer, { session, secrets, image: 'web', signal, emit }).then(
      () => undefined,
      (error: ImagebuildError) => error,
    )
    return { error, events, secrets }
  }

  test('packages that an image begins with are installed at once, without those that are there', async () => {
    const session = new FakeSession()
    const hardening = packagesLayer({ name: 'hardening: packages', install: ['nftables', 'sudo'] })
    const layers = [hardening, packagesLayer({ install: ['curl', 'sudo'] })]
    const to = provisioning(session)
    await provisionFirst(layers, ['sudo'], [], to)
    expect(session.ran.map(({ command }) => / install .*/.exec(command)?.[0])).toEqual([
      ' install curl nftables',
    ])
    await provisionFirst(layers, ['curl', 'nftables', 'sudo'], [shellLayer()], to)
    expect(session.ran).toHaveLength(1)
    const script = shellLayer({ script: bytes('apt-get install -y jq\n') })
    await provisionFirst(layers, ['curl', 'nftables', 'sudo'], [script], to)
    expect(session.ran[1]?.command).toMatch(/ update; do/)
    expect(session.ran[1]?.command).not.toContain(' install ')
  })

  test('of those, one that does not exist is the fault of the layer that names it', async () => {
    const session = new FakeSession(() => ({ code: 100, stderr: 'E: Unable to locate package crul\n' }))
    const there = { ...WHERE, line: 12 }
    const layers = [
      packagesLayer({ install: ['nftables'] }),
      packagesLayer({ install: ['crul'], where: there }),
    ]
    await expect(provisionFirst(layers, [], [], provisioning(session))).rejects.toMatchObject({
      code: 'build_failed',
      where: there,
      why: 'no such package in the guest’s sources: crul',
    })
  })

  test('one whose scripts fail is the fault of the layer that asks for it', async () => {
    const stderr = 'dpkg: error\nErrors were encountered while processing:\n nginx\nE: Sub-process failed\n'
    const session = new FakeSession(() => ({ code: 100, stderr }))
    const layers = [packagesLayer({ name: 'hardening: packages', install: ['sudo'] }), packagesLayer()]
    await expect(provisionFirst(layers, [], [], provisioning(session))).rejects.toMatchObject({
      what: 'layer “packages: nginx” failed',
      why: 'apt-get ended with exit code 100',
    })
  })

  test('a file is written as root, with its owner and mode', async () => {
    const session = new FakeSession()
    const { error } = await apply(fileLayer({ mode: '0640', owner: 'root:adm' }), session)
    expect(error).toBeUndefined()
    expect(session.uploads).toMatchObject([
      {
        path: '/etc/motd',
        content: 'hello\n',
        options: { mode: 0o640, owner: 'root:adm', sudo: true, seconds: 60 },
      },
    ])
  })

  test('a reboot is one, within its timeout', async () => {
    const session = new FakeSession()
    await apply({ kind: 'reboot', name: 'reboot', where: WHERE, timeoutSeconds: 77 }, session)
    expect(session.reboots).toMatchObject([{ seconds: 77 }])
  })

  test('a package that does not exist is named, with the place in the definition and the last output', async () => {
    const session = new FakeSession(() => ({
      code: 100,
      stdout: 'Reading package lists...\n',
      stderr:
        "E: Unable to locate package ngnix\nE: Package 'old' has no installation candidate\nE: Version '9' for 'curl' was not found\nE: Unable to locate package ngnix\n",
    }))
    const { error } = await apply(packagesLayer(), session)
    expect(error).toMatchObject({
      code: 'build_failed',
      what: 'layer “packages: nginx” failed',
      where: WHERE,
      why: 'no such package in the guest’s sources: ngnix, old, curl',
    })
    expect(error?.output).toContain('E: Unable to locate package ngnix')
  })

  test('apt-get that fails otherwise says its exit code', async () => {
    const { error } = await apply(packagesLayer(), new FakeSession(() => ({ code: 100, stderr: 'E: 404' })))
    expect(error).toMatchObject({ why: 'apt-get ended with exit code 100', output: ['E: 404'] })
  })

  test('a script gets its environment, runs as root by sudo, and tells its lines as they come', async () => {
    const session = new FakeSession(({ options, command }) => {
      if (command.includes('/bin/sh -eu')) options.onLine?.('stderr', 'working')
      return {}
    })
    const { error, events } = await apply(shellLayer({ env: { VERSION: '2' } }), session)
    expect(error).toBeUndefined()
    expect(session.ran).toMatchObject([{ options: { sudo: true, env: { VERSION: '2' }, seconds: 60 } }])
    expect(await text(session.ran[0]?.options.stdin as Readable)).toBe('true\n')
    expect(events).toEqual([
      { type: 'output', image: 'web', step: 'layer', stream: 'stderr', line: 'working' },
    ])
  })

  test('a script that fails says its exit code, its place and its last lines', async () => {
    const stdout = Array.from({ length: 50 }, (_, line) => `line ${line + 1}`).join('\n')
    const { error } = await apply(shellLayer(), new FakeSession(() => ({ code: 3, stdout })))
    expect(error).toMatchObject({
      code: 'build_failed',
      exitCode: 1,
      where: WHERE,
      why: 'it ended with exit code 3',
    })
    expect(error?.output.at(-1)).toBe('line 50')
    expect(error?.output.length).toBeLessThanOrEqual(20)
  })

  test('a secret is read when its layer runs, goes into the environment, and into nothing that is printed', async () => {
    vi.stubEnv('IB_TEST_SECRET', 'hunter2')
    const session = new FakeSession(({ options }) => {
      options.onLine?.('stdout', `+ login ${options.env?.TOKEN}`)
      return { code: 1, stderr: 'denied' }
    })
    const { error, events, secrets } = await apply(
      shellLayer({ secrets: { TOKEN: 'env:IB_TEST_SECRET' } }),
      session,
    )
    expect(session.ran[0]?.options.env).toEqual({ TOKEN: 'hunter2' })
    expect(session.ran[0]?.command).not.toContain('hunter2')
    expect(await text(session.ran[0]?.options.stdin as Readable)).not.toContain('hunter2')
    expect(JSON.stringify(events)).not.toContain('hunter2')
    expect(JSON.stringify(events)).toContain(REDACTED)
    expect(secrets.redact(inspect(error, { depth: 10 }))).not.toContain('hunter2')
  })

  test('a secret that cannot be read fails its layer, before anything of it is in the guest', async () => {
    const session = new FakeSession()
    const { error } = await apply(shellLayer({ secrets: { TOKEN: 'env:IB_TEST_UNSET' } }), session)
    expect(error).toMatchObject({ code: 'definition_invalid', exitCode: 65, where: WHERE })
    expect(error?.why).toContain('env:IB_TEST_UNSET')
    expect(session.ran).toEqual([])
  })

  test('that runs too long says its timeout', async () => {
    // As the session says it.
    const late = new ImagebuildError({
      code: 'build_failed',
      what: 'a command in the guest took longer than 60 s',
      why: 'it was killed',
      output: ['last'],
      cause: new DeadlineError('a command in the guest took longer than 60 s'),
    })
    const session = new FakeSession(() => Promise.reject(late))
    expect((await apply(shellLayer(), session)).error).toMatchObject({
      code: 'build_failed',
      where: WHERE,
      why: 'it ran longer than its timeout of 60 s',
      output: ['last'],
      next: expect.stringContaining('raise its `timeout`'),
    })
  })

  test('whose guest is lost says so, at its place', async () => {
    const lost = new ImagebuildError({
      code: 'build_failed',
      what: 'the SSH connection to the guest was lost',
      why: 'reset',
      output: ['last'],
    })
    const { error } = await apply(shellLayer(), new FakeSession(() => Promise.reject(lost)))
    expect(error).toMatchObject({ where: WHERE, why: lost.message, output: ['last'], cause: lost })
  })

  test('that is interrupted gives the reason of the interruption', async () => {
    const stop = controller()
    const reason = new ImagebuildError({ code: 'interrupted', what: 'interrupted' })
    const session = new FakeSession(() => {
      stop.abort(reason)
      return Promise.reject(reason)
    })
    expect((await apply(shellLayer(), session, stop.signal)).error).toBe(reason)
  })
})

describe('secrets are demanded before anything is built', () => {
  const layer = (reference: string) =>
    ({ ...shellLayer(), name: 'register', secrets: { TOKEN: reference } }) as Layer

  test('a variable that is not set names the layer and its place', async () => {
    delete process.env.IMAGEBUILD_TEST_UNSET
    const secrets = new SecretRegistry()
    const { signal } = new AbortController()
    await expect(
      demandSecrets([layer('env:IMAGEBUILD_TEST_UNSET')], { secrets, signal }),
    ).rejects.toMatchObject({
      code: 'definition_invalid',
      what: expect.stringContaining('register'),
      where: { file: expect.any(String) },
      why: expect.stringContaining('IMAGEBUILD_TEST_UNSET'),
    })
  })

  test('a command is left for its time', async () => {
    const { signal } = new AbortController()
    await demandSecrets([layer('cmd:exit 1')], { secrets: new SecretRegistry(), signal })
  })
})
