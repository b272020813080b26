import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { execa } from 'execa'
import { describe, expect, test } from 'vitest'
import { inspectArchive } from '../../src/archive/inspect.ts'
import { rewriteArchive } from '../../src/archive/rewrite.ts'
import { archive, directory, file, hardlink, pax, raw, symlink } from './raw-tar.ts'
import { list, rewriteBytes, workplace } from './workplace.ts'

const signal = new AbortController().signal
const ATTRIBUTES = ['--xattrs', '--xattrs-include=*', '--acls']

/** A small root file system with all that tar can hold, and that only root can make. */
async function makeTree(root: string): Promise<void> {
  await execa(
    'bash',
    [
      '-ec',
      `mkdir -p usr/bin usr/lib etc srv/${'deep-'.repeat(20)}/${'deeper-'.repeat(20)} tmp
      ln -s usr/bin bin; ln -s ../usr/lib/os-release etc/os-release; ln -s /proc/self/mounts etc/mtab
      printf 'ID=debian\\nVERSION_ID="12"\\n' > usr/lib/os-release
      echo tool > usr/bin/tool; chmod 4755 usr/bin/tool; ln usr/bin/tool usr/bin/zz-same
      cp /bin/true usr/bin/ping; setcap cap_setuid,cap_net_raw,cap_audit_write+ep usr/bin/ping
      echo x > srv/user; chown 3000000:4000000 srv/user; touch -d @5000000000.25 srv/user
      setfacl -m u:1234:rw,g:4321:r srv/user; setfacl -d -m u:1234:rx srv
      echo y > "srv/na\u00efve \u6587.txt"; echo z > $'srv/latin-\\xe9'; echo n > $'srv/new\\nline'
      echo w > srv/${'deep-'.repeat(20)}/${'deeper-'.repeat(20)}/${'n'.repeat(200)}
      mkfifo srv/fifo; chmod 1777 tmp; chmod 2750 srv; : > srv/empty
      setfattr -n user.bytes -v 0xff00fe0a3d srv/empty; setfattr -n user.dir -v some srv
      head -c 3000000 /dev/urandom > srv/large
      find . -type d -exec touch -d @1600000000 {} +`,
    ],
    { cwd: root },
  )
}

/** What there is on the disk, with everything that an archive must keep. */
async function describeTree(root: string): Promise<string> {
  const { stdout } = await execa(
    'bash',
    [
      '-ec',
      `export LC_ALL=C; find . -printf '%P|%y|%m|%U:%G|%s|%n|%l|%Ts\\n' | grep -v '|d|.*' | sort
      find . -type d -printf '%P|%m|%U:%G|%Ts\\n' | sort
      find . -type f -print0 | sort -z | xargs -0 sha256sum
      find . -print0 | sort -z | xargs -0 getfattr -h -d -m - -e hex --absolute-names
      find . ! -type l -print0 | sort -z | xargs -0 getfacl -n -p`,
    ],
    { cwd: root },
  )
  return stdout.replace(/\.\d{10}\b/g, '')
}

async function unpack(path: string, into: string): Promise<void> {
  await mkdir(into)
  const args = [
    '-C',
    into,
    '--numeric-owner',
    ...ATTRIBUTES,
    '--same-owner',
    '--delay-directory-restore',
    '-xpf',
    path,
  ]
  await execa('tar', ['--use-compress-program=zstd', '--warning=no-unknown-keyword', ...args])
}

describe('what real tools pack comes out as it was', () => {
  const PRODUCERS: [string, string[]][] = [
    ['GNU tar, pax', ['tar', '--format=pax', ...ATTRIBUTES, '--sort=name', '-cf', '-', '.']],
    [
      'GNU tar, pax, xz, no prefix',
      ['bash', '-c', `tar --format=pax ${ATTRIBUTES.join(' ')} --sort=name -c * | xz -0`],
    ],
    ['bsdtar, pax, gzip', ['bsdtar', '--format=pax', '--xattrs', '--acls', '-czf', '-', '.']],
  ]
  test.each(PRODUCERS)('%s', async (_, [command, ...args]) => {
    await using folder = await workplace()
    const root = join(folder.path, 'root')
    await mkdir(root)
    await makeTree(root)
    const input = join(folder.path, 'in.tar')
    const packing = await execa(command as string, args, {
      cwd: root,
      encoding: 'buffer',
      env: { LC_ALL: 'C.UTF-8' },
    })
    await writeFile(input, packing.stdout)
    const output = join(folder.path, 'out.tar.zst')
    const { sha256, size, ...contents } = await rewriteArchive({ input, output, signal })
    expect(contents).toMatchObject({ osRelease: { ID: 'debian', VERSION_ID: '12' }, devices: 0 })
    expect(contents.has('bin/tool') && contents.has('/etc/os-release')).toBe(true)
    const summed = await execa('sha256sum', [output])
    expect(summed.stdout.split(' ')[0]).toBe(sha256)
    expect((await readFile(output)).length).toBe(size)
    await unpack(output, join(folder.path, 'back'))
    const topTime = /^\|.*$/gm
    const before = (await describeTree(root)).replace(topTime, '')
    const after = (await describeTree(join(folder.path, 'back'))).replace(topTime, '')
    expect(after).toBe(before)
    expect(before).toContain('security.capability=0x')
    // A capability above bit 7 of a byte is what UTF-8 would break.
    expect(before).toMatch(/security\.capability=0x[0-9a-f]*8[0-9a-f]/)
  })
})

describe('the same tree gives the same bytes', () => {
  test('in the dialects of GNU tar, with different prefixes, on one processor and on two', async () => {
    await using folder = await workplace()
    const root = join(folder.path, 'root')
    await mkdir(root)
    await execa(
      'bash',
      [
        '-ec',
        `mkdir -p a/b; echo 1 > a/b/c; ln a/b/c a/b/d; ln -s c a/b/e; head -c 20000000 /dev/zero > a/f; echo 2 > a/${'x'.repeat(150)}; touch -d @1700000000.5 a/b/c`,
      ],
      { cwd: root },
    )
    const sums = new Set<string>()
    for (const args of [
      ['--format=gnu', '-c', '.'],
      ['--format=pax', '-c', '.'],
      ['--format=pax', '--numeric-owner', '--pax-option=delete=atime', '-c', '.'],
      ['--format=gnu', '--transform=s,^\\./,,', '-c', '.'],
      ['--format=pax', '-c', '.'],
    ]) {
      const { stdout } = await execa('tar', ['--sort=name', ...args], { cwd: root, encoding: 'buffer' })
      sums.add((await rewriteBytes(Buffer.from(stdout))).packed)
    }
    expect([...sums]).toHaveLength(1)
    const { stdout } = await execa('tar', ['--sort=name', '-c', '.'], { cwd: root, encoding: 'buffer' })
    await writeFile(join(folder.path, 'in.tar'), stdout)
    const script = `import { rewriteArchive } from ${JSON.stringify(join(import.meta.dirname, '../../src/archive/rewrite.ts'))}
      const { sha256 } = await rewriteArchive({ input: 'in.tar', output: 'one.tar.zst', signal: new AbortController().signal })
      process.stdout.write(sha256)`
    const one = await execa(
      'taskset',
      ['--cpu-list', '0', process.execPath, '--input-type=module', '-e', script],
      { cwd: folder.path },
    )
    expect(one.stdout).toBe([...sums][0])
  })

  test('times later than the epoch become it, others stay', async () => {
    const input = archive(raw({ name: 'old', mtime: 5 }), raw({ name: 'new', mtime: 500 }))
    const { tar } = await rewriteBytes(input, {
      sourceDateEpoch: 100,
      add: [{ type: 'file', path: 'z', content: '' }],
    })
    const { stdout } = await execa('tar', ['-tv', '--full-time', '--utc'], { input: tar })
    expect(stdout.match(/1970-01-01 \S+/g)).toEqual([
      '1970-01-01 00:00:05',
      '1970-01-01 00:01:40',
      '1970-01-01 00:01:40',
    ])
  })
})

describe('additions', () => {
  const seed = {
    type: 'file',
    path: '/var/lib/cloud/seed/nocloud/meta-data',
    content: 'instance-id: x\n',
    mode: 0o600,
  } as const

  test('come last, by path, with the directories that are missing', async () => {
    const { tar } = await rewriteBytes(archive(directory('./'), directory('./var'), file('./zz')), {
      add: [
        seed,
        { type: 'symlink', path: 'etc/link', target: '/run/x' },
        { type: 'directory', path: 'opt', mode: 0o700 },
      ],
    })
    expect(await list(tar)).toEqual([
      './',
      './var/',
      './zz',
      './etc/',
      './etc/link',
      './opt/',
      './var/lib/',
      './var/lib/cloud/',
      './var/lib/cloud/seed/',
      './var/lib/cloud/seed/nocloud/',
      './var/lib/cloud/seed/nocloud/meta-data',
    ])
  })

  test('replace what is there, and are followed through symlinks', async () => {
    const input = archive(
      symlink('lib', 'usr/lib'),
      directory('usr'),
      directory('usr/lib'),
      file('usr/lib/unit', 'old'),
      file('etc/x', 'old'),
    )
    const { tar } = await rewriteBytes(input, {
      add: [
        { type: 'file', path: 'lib/unit', content: 'new' },
        { type: 'file', path: 'etc/x', content: 'new' },
        { type: 'directory', path: 'usr/lib', mode: 0o700 },
      ],
    })
    expect((await list(tar)).toSorted()).toEqual([
      './etc/x',
      './lib',
      './usr/',
      './usr/lib/',
      './usr/lib/unit',
    ])
    const { stdout } = await execa('tar', ['-xO', './usr/lib/unit', './etc/x'], { input: tar })
    expect(stdout).toBe('newnew')
  })

  const REFUSED: [string, Buffer, string, RegExp][] = [
    ['through a symlink out of the tree', archive(symlink('lib', '../..')), 'lib/x', /out of the tree/],
    ['in place of a directory', archive(directory('a')), 'a', /cannot replace a directory/],
    ['below a file', archive(file('a')), 'a/b', /which is a file/],
    ['out of the tree', archive(file('a')), '../b', /`\.\.`/],
    ['what hard links point to', archive(file('a'), hardlink('b', 'a')), 'a', /left out or replaced/],
    [
      'where the symlink comes too late',
      archive(file('usr/lib/x'), symlink('lib', 'usr/lib')),
      'lib/x',
      /Add it as "usr\/lib\/x"/,
    ],
  ]
  test.each(REFUSED)('are refused: %s', async (_, input, path, why) => {
    await expect(rewriteBytes(input, { add: [{ type: 'file', path, content: '' }] })).rejects.toMatchObject({
      why: expect.stringMatching(why),
    })
  })
})

test('device nodes below dev are left out and counted, dropped directories go with what is in them', async () => {
  const input = archive(
    directory('./dev'),
    raw({ name: './dev/null', type: '3' }),
    raw({ name: './dev/sda', type: '4' }),
    raw({ name: './dev/net/tun', type: '3' }),
    directory('./var'),
    directory('./var/cache'),
    file('./var/cache/a'),
    file('./var/b'),
  )
  await using folder = await workplace()
  const output = join(folder.path, 'out.tar.zst')
  const found = await rewriteArchive({
    input: Readable.from([input]),
    output,
    drop: (path) => path === 'var/cache',
    signal,
  })
  expect(found).toMatchObject({
    devices: 3,
    entries: 3,
    packing: 'none',
    prefix: './',
    uncompressed: input.length,
  })
  expect([found.has('dev/null'), found.has('var/cache/a'), found.has('var/b')]).toEqual([false, false, true])
})

test('a file below a symlink inside the tree moves to where that leads', async () => {
  const { tar } = await rewriteBytes(
    archive(directory('usr/bin'), symlink('bin', '/usr/bin'), file('bin/x'), hardlink('y', 'bin/x')),
  )
  expect(await list(tar)).toEqual(['./usr/bin/', './bin', './usr/bin/x', './y'])
  expect((await execa('tar', ['-tv'], { input: tar })).stdout).toContain('./y link to ./usr/bin/x')
})

test('a file beyond 8 GiB keeps its size in a pax record', async () => {
  const { encodeHeader } = await import('../../src/archive/write-header.ts')
  const header = encodeHeader({
    path: 'big',
    name: 'big',
    kind: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime: 0,
    size: 9 * 2 ** 30,
    target: '',
    attributes: [],
  })
  // Only the header is there, and tar says so.
  const { stdout } = await execa('tar', ['-tv'], { input: header, reject: false })
  expect(stdout).toContain(String(9 * 2 ** 30))
})

test('inspecting tells what a system has', async () => {
  const input = archive(
    symlink('sbin', 'usr/sbin'),
    file('usr/sbin/sshd'),
    symlink('usr/sbin/init', '../lib/systemd/systemd'),
    file('usr/lib/systemd/systemd'),
    symlink('etc/os-release', '../usr/lib/os-release'),
    file('usr/lib/os-release', 'NAME="A \\"B\\""\nID=ubuntu\nVERSION_ID=\'24.04\'\n'),
  )
  const found = await inspectArchive({ input: Readable.from([input]), signal })
  expect(found).toMatchObject({
    sshd: true,
    cloudInit: false,
    init: true,
    prefix: '',
    entries: 6,
    osRelease: { ID: 'ubuntu', VERSION_ID: '24.04', NAME: 'A "B"' },
  })
})

test('global comments are no harm', async () => {
  const { tar } = await rewriteBytes(archive(pax({ comment: 'abc' }, 'g'), file('a')))
  expect(await list(tar)).toEqual(['./a'])
})

describe('giving up', () => {
  test('leaves nothing behind, no file and no process', async () => {
    await using folder = await workplace()
    const input = new PassThrough()
    // Incompressible, so that the packers have begun.
    input.write(
      Buffer.concat([
        file('a', 'x'),
        raw({ name: 'big', size: 50_000_000 }).subarray(0, 512),
        Buffer.alloc(5_000_000, 'abc'),
      ]),
    )
    const stop = new AbortController()
    const reason = new Error('enough')
    const output = join(folder.path, 'out.tar.zst')
    const rewriting = rewriteArchive({
      input,
      output,
      signal: stop.signal,
      onProgress: (bytes) => bytes > 4_000_000 && stop.abort(reason),
    })
    await expect(rewriting).rejects.toBe(reason)
    expect(await readdir(folder.path)).toEqual([])
    expect(await children()).toEqual([])
    expect(input.destroyed).toBe(true)
  })

  test('a failed rewrite keeps the archive that was there', async () => {
    await using folder = await workplace()
    const output = join(folder.path, 'out.tar.zst')
    await writeFile(output, 'before')
    await expect(rewriteArchive({ input: Readable.from([file('a')]), output, signal })).rejects.toThrow(
      /cut off/,
    )
    expect(await readFile(output, 'utf8')).toBe('before')
    expect(await readdir(folder.path)).toEqual(['out.tar.zst'])
  })
})

test('a full disk is not the fault of the archive', async () => {
  await using folder = await workplace()
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder.path])
  try {
    const output = join(folder.path, 'out.tar.zst')
    const noise = randomBytes(8_000_000)
    const input = Readable.from([archive(raw({ name: 'noise', content: noise }))])
    await expect(rewriteArchive({ input, output, signal })).rejects.toMatchObject({
      code: 'build_failed',
      why: expect.stringContaining('No space left'),
    })
    expect(await readdir(folder.path)).toEqual([])
  } finally {
    await execa('umount', [folder.path])
  }
})

/** Packers that this process has started and that are there still. */
async function children(): Promise<string[]> {
  const { stdout } = await execa('ps', ['--ppid', String(process.pid), '-o', 'comm='], { reject: false })
  return stdout.split('\n').filter((name) => /^(zstd|xz|gzip)/.test(name))
}
