import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { ImagebuildError } from '../../src/core/errors.ts'
import { fingerprint } from '../../src/ssh/host-key.ts'
import { generateKeyPair } from '../../src/ssh/openssh.ts'
import { openSession, type Session, type SessionOptions } from '../../src/ssh/session.ts'
import { pause } from '../core/paused.ts'
import { freePort, noNamespace, noSshd, noSudo, processList, type Sshd, startSshd } from './sshd.ts'

describe.skipIf(noSshd)(`a session with a real sshd${noSshd ? ` (skipped: ${noSshd})` : ''}`, () => {
  let sshd: Sshd
  let session: Session
  let directory: string

  const options = (change: Partial<SessionOptions> = {}): SessionOptions => ({
    host: '127.0.0.1',
    port: sshd.port,
    username: sshd.username,
    privateKey: sshd.userKey.privateKey,
    hostKey: sshd.hostKey.publicKey,
    signal: new AbortController().signal,
    connectSeconds: 10,
    ...change,
  })
  const failure = async (promise: Promise<unknown>): Promise<ImagebuildError> => {
    const error = await promise.then(
      () => expect.unreachable(),
      (thrown: unknown) => thrown,
    )
    expect(error).toBeInstanceOf(ImagebuildError)
    return error as ImagebuildError
  }
  const alive = (pid: number) => {
    try {
      process.kill(pid, 0)
      return true
    } catch {
      return false
    }
  }
  beforeAll(async () => {
    sshd = await startSshd()
    directory = await mkdtemp(join(tmpdir(), 'imagebuild-session-'))
    session = await openSession(options())
  })
  afterAll(async () => {
    await session?.[Symbol.asyncDispose]()
    await sshd?.[Symbol.asyncDispose]()
    if (directory) await rm(directory, { recursive: true, force: true })
  })

  describe('logging in', () => {
    test('takes the pinned key as a line and as a fingerprint', async () => {
      await using other = await openSession(options({ hostKey: fingerprint(sshd.hostKey.publicKey) }))
      expect(await other.run('echo in', { seconds: 60 })).toEqual({ code: 0, stdout: 'in\n', stderr: '' })
    })

    test('gives up at once on another host key, and names both', async () => {
      const other = await generateKeyPair('other')
      const attempts: string[] = []
      const error = await failure(
        openSession(options({ hostKey: other.publicKey, onAttempt: (_, reason) => attempts.push(reason) })),
      )
      expect(error.code).toBe('build_failed')
      expect(error.why).toContain(fingerprint(sshd.hostKey.publicKey))
      expect(error.why).toContain(fingerprint(other.publicKey))
      expect(attempts).toEqual([])
    })

    test('goes on trying while the login is refused, and says so in the end', async () => {
      const stranger = await generateKeyPair('stranger')
      const attempts: string[] = []
      const error = await failure(
        openSession(
          options({
            privateKey: stranger.privateKey,
            connectSeconds: 10,
            onAttempt: (n, reason) => attempts.push(`${n} ${reason}`),
          }),
        ),
      )
      expect(error.why).toMatch(/port \d+ answers, authentication refused/)
      // 0 s, 1 s, 3 s, 7 s: more of them would make OpenSSH 9.8 shut us out. A busy machine makes them fewer.
      expect(attempts.length).toBeGreaterThan(1)
      expect(attempts.length).toBeLessThan(5)
      expect(attempts[0]).toMatch(/^1 port \d+ answers, authentication refused/)
    })

    test('reaches a server that was not there yet as soon as it starts', async () => {
      const port = await freePort()
      const attempts: string[] = []
      const twice = Promise.withResolvers<void>()
      const outcome = failure(
        openSession(
          options({
            port,
            onAttempt: (n, reason) => {
              attempts.push(reason)
              if (n === 2) twice.resolve()
            },
          }),
        ),
      )
      await twice.promise
      // It has a host key of its own, so that being told so proves that it was reached.
      await using _late = await startSshd({ port })
      expect((await outcome).why).toContain('host key')
      expect(attempts[0]).toMatch(/refuses connections/)
    })

    test('tells a port that is open but silent from one that speaks something else', async () => {
      const server = createServer((socket) => {
        socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n')
      }).listen(0, '127.0.0.1')
      await new Promise((done) => server.once('listening', done))
      const { port } = server.address() as { port: number }
      try {
        const error = await failure(openSession(options({ port, connectSeconds: 1 })))
        expect(error.why).toMatch(/closes the connection before/)
      } finally {
        server.close()
      }
    })

    test('stops with the signal and throws its reason', async () => {
      const controller = new AbortController()
      const reason = new Error('interrupted')
      const pending = openSession(options({ port: await freePort(), signal: controller.signal }))
      setTimeout(() => controller.abort(reason), 100)
      await expect(pending).rejects.toBe(reason)
    })
  })

  describe('commands', () => {
    test('run by sh, with exit code and both streams', async () => {
      const result = await session.run('echo out; echo err >&2; exit 3', { seconds: 60 })
      expect(result).toEqual({ code: 3, stdout: 'out\n', stderr: 'err\n' })
    })

    test.each([
      ["echo 'it'\\''s' \"$HOME\" | cut -c1-4", "it's\n"],
      ['x=1; f() { echo "f $1"; }; f 2', 'f 2\n'],
      ['cat <<EOF\none\ntwo\nEOF', 'one\ntwo\n'],
      ['echo a \\\n  b', 'a b\n'],
      ['# only a comment', ''],
      ['echo "$#:$s"', '0:\n'],
    ])('means what sh -c means by %j', async (command, stdout) => {
      expect(await session.run(command, { seconds: 60 })).toEqual({ code: 0, stdout, stderr: '' })
    })

    test('a script that does not parse fails as sh says', async () => {
      const result = await session.run('if true', { seconds: 60 })
      expect(result.code).toBe(2)
      expect(result.stderr).toMatch(/syntax error/i)
    })

    test('ended by a signal: 128 plus its number', async () => {
      expect((await session.run('kill -9 $$', { seconds: 60 })).code).toBe(137)
      expect((await session.run('kill -TERM $$', { seconds: 60 })).code).toBe(143)
    })

    test('get standard input to the byte, as a string, as a stream, or none', async () => {
      const bytes = randomBytes(300_000)
      const sum = createHash('sha256').update(bytes).digest('hex')
      const streamed = await session.run('sha256sum', { seconds: 10, stdin: Readable.from([bytes]) })
      expect(streamed.stdout.split(' ')[0]).toBe(sum)
      expect((await session.run('read a; echo "<$a>"; cat', { seconds: 5, stdin: 'one\ntwo' })).stdout).toBe(
        '<one>\ntwo',
      )
      expect((await session.run('cat', { seconds: 60 })).stdout).toBe('')
      expect((await session.run('true', { seconds: 5, stdin: 'x'.repeat(3_000_000) })).code).toBe(0)
    })

    test('a broken input stream is the error', async () => {
      const stdin = new Readable({
        read() {
          this.destroy(new Error('the file vanished'))
        },
      })
      await expect(session.run('cat', { seconds: 5, stdin })).rejects.toThrow('the file vanished')
    })

    test('environment arrives as it is, and neither it nor the command is in the process list', async () => {
      const secret = `it's "$x" \\ ${randomBytes(8).toString('hex')}\nsecond line`
      let seen = ''
      const lines: string[] = []
      const result = await session.run('echo ready; read go; printf %s "$TOKEN"; : marker-in-the-command', {
        seconds: 10,
        env: { TOKEN: secret },
        stdin: Readable.from(
          (async function* () {
            await expect.poll(() => lines.length).toBeGreaterThan(0)
            seen = await processList()
            yield 'go\n'
          })(),
        ),
        onLine: (_, line) => lines.push(line),
      })
      expect(result.stdout).toBe(`ready\n${secret}`)
      expect(seen).toContain('sh -c')
      expect(seen).not.toContain('second line')
      expect(seen).not.toContain('marker-in-the-command')
      await expect(session.run('true', { seconds: 5, env: { 'A;B': '' } })).rejects.toThrow(
        /name of a variable/,
      )
    })

    test('lines come live, whole, and in UTF-8 however the packets are cut', async () => {
      const lines: string[] = []
      const result = await session.run(
        "printf '\\342'; sleep 0.3; printf '\\202'; sleep 0.3; printf '\\254 1\\nprogress 1\\rprogress 2\\r\\n'; printf '\\303\\244rger' >&2",
        { seconds: 5, onLine: (stream, line) => lines.push(`${stream}: ${line}`) },
      )
      expect(result.stdout).toBe('€ 1\nprogress 1\rprogress 2\r\n')
      expect(lines.sort()).toEqual(['stderr: ärger', 'stdout: progress 2', 'stdout: € 1'])
    })

    test('keep the end of a big output, and say how much is gone', async () => {
      const { stdout } = await session.run('yes 0123456789abcde | head -c 20000000; echo END', {
        seconds: 60,
      })
      expect(stdout.length).toBeLessThan(1024 * 1024 + 100)
      expect(stdout).toMatch(/^\[the first 189514\d\d bytes are left out\]\n/)
      expect(stdout.endsWith('abcde\nEND\n')).toBe(true)
    })

    test('do not wait for what a command leaves behind with its output open', async () => {
      const result = await session.run('sleep 3600 & echo $!', { seconds: 60 })
      expect(result.code).toBe(0)
      // It is there still: throws where it is not.
      process.kill(Number(result.stdout))
    })

    test('many at a time over one connection', async () => {
      const all = await Promise.all(
        Array.from({ length: 8 }, (_, n) => session.run(`echo ${n}`, { seconds: 60 })),
      )
      expect(all.map((each) => each.stdout)).toEqual(Array.from({ length: 8 }, (_, n) => `${n}\n`))
    })

    test('past the deadline all they started is killed, even what ignores TERM', async () => {
      const file = join(directory, 'pids')
      const command = `trap '' TERM; sleep 3600 & echo "$$ $!" >${file}; echo working; wait`
      let error: ImagebuildError
      let seconds = 1
      // On a busy machine a second may be over before the command is heard.
      do {
        error = await failure(session.run(command, { seconds }))
        expect(error.what).toContain(`took longer than ${seconds} s`)
        seconds *= 4
      } while (error.output?.length === 0 && seconds < 300)
      expect(error.output).toEqual(['working'])
      const pids = (await readFile(file, 'utf8')).trim().split(' ').map(Number)
      expect(pids).toHaveLength(2)
      await expect.poll(() => !pids.some(alive)).toBe(true)
    })

    test('an abort throws its reason and kills too', async () => {
      const controller = new AbortController()
      const file = join(directory, 'aborted')
      const pending = session.run(`echo $$ >${file}; sleep 60`, { seconds: 60, signal: controller.signal })
      const reason = new Error('interrupted')
      const outcome = expect(pending).rejects.toBe(reason)
      await expect.poll(async () => (await readFile(file, 'utf8').catch(() => '')) !== '').toBe(true)
      controller.abort(reason)
      await outcome
      const pid = Number(await readFile(file, 'utf8'))
      await expect.poll(() => !alive(pid)).toBe(true)
    })

    test.skipIf(noSudo)(`as root by sudo${noSudo ? ` (skipped: ${noSudo})` : ''}`, async () => {
      // Who is root already goes without it.
      const result = await session.run('echo "$SUDO_COMMAND"; echo "$X"; id -u', {
        seconds: 60,
        sudo: true,
        env: { X: 'kept' },
      })
      const asked = sshd.username === 'root' ? '' : '\\/\\S+\\/sh -c [\\s\\S]*'
      expect(result.stdout).toMatch(new RegExp(`^${asked}\\nkept\\n0\\n$`))
      expect(result.stdout).not.toContain('X=')
    })
  })

  describe('a connection that dies', () => {
    test('in the middle of a command: the command fails with its last lines, and `lost` tells', async () => {
      await using other = await openSession(options())
      const error = await failure(other.run('echo working; sleep 0.3; kill -9 $PPID', { seconds: 3000 }))
      expect(error.what).toBe('the SSH connection to the guest was lost')
      expect(error.why).toContain('echo working')
      expect(error.output).toEqual(['working'])
      expect(await other.lost).toBeInstanceOf(Error)
      const after = await failure(other.run('true', { seconds: 60 }))
      expect(after.what).toBe('the SSH connection to the guest was lost')
    })

    test('a server that falls silent is noticed by keepalive, well before the deadline', async () => {
      await using other = await openSession({ ...options(), silentSeconds: 3 })
      const server = Number((await other.run('echo $PPID', { seconds: 60 })).stdout)
      const started = performance.now()
      process.kill(server, 'SIGSTOP')
      try {
        // Nobody else would end it once its server is gone.
        const untilGone = 'while kill -0 $PPID 2>/dev/null; do sleep 0.2; done'
        const error = await failure(other.run(untilGone, { seconds: 3600 }))
        expect(error.why).toMatch(/has not answered for 3 s/)
        expect(performance.now() - started).toBeGreaterThan(2000)
      } finally {
        process.kill(server, 'SIGKILL')
      }
    })

    describe('while this process has paused', () => {
      afterEach(() => {
        vi.restoreAllMocks()
      })

      test('is made anew before the next command', async () => {
        await using other = await openSession(options())
        const server = Number((await other.run('echo $PPID', { seconds: 60 })).stdout)
        process.kill(server, 'SIGKILL')
        await other.lost
        pause('stopped', 600)
        const again = await other.run('echo $PPID', { seconds: 60 })
        expect(again.code).toBe(0)
        expect(Number(again.stdout)).not.toBe(server)
        // Without a pause a loss is a loss.
        process.kill(Number(again.stdout), 'SIGKILL')
        await expect.poll(() => alive(Number(again.stdout))).toBe(false)
        expect((await failure(other.run('true', { seconds: 60 }))).what).toContain('was lost')
      })

      test('and is as good as dead, is made anew, too', async () => {
        await using other = await openSession(options())
        const server = Number((await other.run('echo $PPID', { seconds: 60 })).stdout)
        process.kill(server, 'SIGSTOP')
        try {
          pause('suspended', 600)
          expect((await other.run('echo here', { seconds: 60 })).stdout).toBe('here\n')
        } finally {
          process.kill(server, 'SIGKILL')
        }
      })

      test('and lives goes on being used, also where nobody gets in any more', async () => {
        await using guest = await startSshd()
        await using other = await openSession(
          options({
            port: guest.port,
            privateKey: guest.userKey.privateKey,
            hostKey: guest.hostKey.publicKey,
          }),
        )
        const server = Number((await other.run('echo $PPID', { seconds: 60 })).stdout)
        await guest.stop()
        pause('stopped', 600)
        expect((await other.run('echo $PPID', { seconds: 60 })).stdout).toBe(`${server}\n`)
      })

      test('and cannot be made anew: that says both', async () => {
        const guest = await startSshd()
        await using other = await openSession(
          options({
            port: guest.port,
            privateKey: guest.userKey.privateKey,
            hostKey: guest.hostKey.publicKey,
          }),
        )
        const server = Number((await other.run('echo $PPID', { seconds: 60 })).stdout)
        await guest[Symbol.asyncDispose]()
        process.kill(server, 'SIGKILL')
        await other.lost
        await using _another = await startSshd({ port: guest.port })
        pause('stopped', 600)
        const error = await failure(other.run('true', { seconds: 60 }))
        expect(error.what).toBe('the SSH connection to the guest was lost while this process did not run')
        expect(error.why).toContain('the guest closed it; and there is no new login')
        expect(error.why).toContain('another machine has this address')
      })
    })

    test('a session that was closed on purpose is not lost', async () => {
      const other = await openSession(options())
      await other[Symbol.asyncDispose]()
      expect(await Promise.race([other.lost, new Promise((done) => setTimeout(done, 300, 'quiet'))])).toBe(
        'quiet',
      )
    })
  })

  /**
   * A server whose sessions see a boot_id of our own, and a systemctl that "reboots" by changing it and ending
   * the session. The bind mount is in a mount namespace that goes with the session.
   */
  describe.skipIf(noSshd || noNamespace)(`a reboot${noNamespace ? ` (skipped: ${noNamespace})` : ''}`, () => {
    const startGuest = async (systemctl: string) => {
      const home = await mkdtemp(join(directory, 'guest-'))
      const file = (name: string) => join(home, name)
      await writeFile(file('boot_id'), '11111111-1111-1111-1111-111111111111\n')
      await writeFile(file('systemctl'), `#!/bin/sh\n${systemctl.replaceAll('BOOT_ID', file('boot_id'))}\n`, {
        mode: 0o755,
      })
      await writeFile(
        file('login'),
        [
          '#!/bin/sh',
          `mount --bind ${file('boot_id')} /proc/sys/kernel/random/boot_id`,
          `PATH=${home}:$PATH SSHD_CHILD=$PPID; export PATH SSHD_CHILD`,
          'exec sh -c "$SSH_ORIGINAL_COMMAND"',
        ].join('\n'),
        { mode: 0o755 },
      )
      return startSshd({ extra: `ForceCommand exec unshare -m ${file('login')}` })
    }
    const into = (guest: Sshd) =>
      options({ port: guest.port, privateKey: guest.userKey.privateKey, hostKey: guest.hostKey.publicKey })

    test('ends in a new login, and is no loss', async () => {
      await using guest = await startGuest(
        'echo 22222222-2222-2222-2222-222222222222 >BOOT_ID; kill -9 $SSHD_CHILD',
      )
      await using rebooted = await openSession(into(guest))
      await rebooted.reboot({ seconds: 60 })
      const { stdout } = await rebooted.run('cat /proc/sys/kernel/random/boot_id', { seconds: 60 })
      expect(stdout).toMatch(/^2222/)
      expect(await Promise.race([rebooted.lost, new Promise((done) => setTimeout(done, 200, 'quiet'))])).toBe(
        'quiet',
      )
      // From here on, a loss is a loss again.
      await failure(rebooted.run('kill -9 $SSHD_CHILD; sleep 5', { seconds: 60 }))
      expect(await rebooted.lost).toBeInstanceOf(Error)
    })

    test('a guest that does not go down fails at the deadline, and says so', async () => {
      await using guest = await startGuest('exit 0')
      await using stubborn = await openSession(into(guest))
      const error = await failure(stubborn.reboot({ seconds: 15 }))
      expect(error.what).toContain('after the reboot')
      expect(error.why).toContain('the guest has not gone down')
    })

    test('a guest that refuses fails at once', async () => {
      await using guest = await startGuest('echo "Access denied" >&2; exit 1')
      await using unwilling = await openSession(into(guest))
      const error = await failure(unwilling.reboot({ seconds: 60 }))
      expect(error.what).toBe('the guest refuses to reboot')
      expect(error.why).toBe('Access denied')
    })
  })

  describe('files', () => {
    test('arrive whole, with mode and missing directories, and leave nothing beside them', async () => {
      const target = join(directory, 'deep', "it's here", 'file.bin')
      const bytes = randomBytes(5_000_000)
      await session.upload(bytes, target, { mode: 0o640 })
      expect(bytes.equals(await readFile(target))).toBe(true)
      expect((await stat(target)).mode & 0o7777).toBe(0o640)
      expect((await stat(join(directory, 'deep'))).mode & 0o7777).toBe(0o755)
      expect(await readdir(join(target, '..'))).toEqual(['file.bin'])
      expect(bytes.equals(await session.download(target))).toBe(true)
    })

    test('from a path, from no bytes at all, over an older file', async () => {
      const source = join(directory, 'source')
      const target = join(directory, 'target')
      await writeFile(source, 'newer')
      await writeFile(target, 'older and longer')
      await session.upload(source, target)
      expect(await readFile(target, 'utf8')).toBe('newer')
      expect((await stat(target)).mode & 0o7777).toBe(0o644)
      await session.upload(new Uint8Array(), target)
      expect(await readFile(target, 'utf8')).toBe('')
    })

    test('that cannot be written or read say why', async () => {
      const onto = await failure(session.upload(Buffer.from('x'), directory))
      expect(onto.what).toBe(`${directory} cannot be written in the guest`)
      expect(onto.why).toMatch(/directory/)
      expect(
        (await readdir(join(directory, '..'))).filter((name) => name.startsWith('.imagebuild.')),
      ).toEqual([])
      const missing = await failure(session.download(join(directory, 'missing')))
      expect(missing.why).toMatch(/No such file/)
      await expect(session.upload(join(directory, 'nowhere'), join(directory, 'x'))).rejects.toThrow(/ENOENT/)
    })

    test.skipIf(noSudo)(`with an owner, as root${noSudo ? ` (skipped: ${noSudo})` : ''}`, async () => {
      const target = join(directory, 'owned')
      await session.upload(Buffer.from('x'), target, { owner: '12:34', mode: 0o4755, sudo: true })
      const { uid, gid, mode } = await stat(target)
      expect([uid, gid, mode & 0o7777]).toEqual([12, 34, 0o4755])
      expect((await session.download(target, { sudo: true })).toString()).toBe('x')
    })
  })

  describe('streaming', () => {
    test('waits for whoever takes the data, and loses none of it', async () => {
      const bytes = randomBytes(300_000)
      const path = join(directory, 'streamed')
      await writeFile(path, bytes)
      const taken: Buffer[] = []
      let busy = false
      const { code } = await session.stream(
        `cat ${path}`,
        async (chunk) => {
          expect(busy).toBe(false)
          busy = true
          // Longer than the command's end is waited for: it is over while this is still at its first bytes.
          await new Promise((resolve) => setTimeout(resolve, taken.length === 0 ? 1300 : 1))
          taken.push(chunk)
          busy = false
        },
        { seconds: 60 },
      )
      expect(code).toBe(0)
      expect(Buffer.concat(taken).equals(bytes)).toBe(true)
    })

    test('ends with what its taker rejects with', async () => {
      const full = new Error('no space left on device')
      const streaming = session.stream('yes', () => Promise.reject(full), { seconds: 60 })
      await expect(streaming).rejects.toBe(full)
      expect((await session.run('true', { seconds: 60 })).code).toBe(0)
    })
  })
})
