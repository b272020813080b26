import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import type { ArchiveLimits } from '../../src/archive/limits.ts'
import { rewriteArchive } from '../../src/archive/rewrite.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import { archive, directory, END, file, hardlink, pax, raw, symlink } from './raw-tar.ts'
import { workplace } from './workplace.ts'

const long = (length: number) => Buffer.alloc(length, 'n').toString()
const longName = (name: string) => raw({ name: '././@LongLink', type: 'L', content: `${name}\0` })

const HOSTILE: [
  what: string,
  bytes: Buffer,
  entry: string | undefined,
  why: RegExp,
  limits?: Partial<ArchiveLimits>,
][] = [
  ['an absolute path', archive(file('/etc/passwd')), '/etc/passwd', /absolute/],
  ['an absolute path in a pax header', archive(pax({ path: '/etc/x' }), file('x')), '/etc/x', /absolute/],
  ['.. at the beginning', archive(file('../x')), '../x', /`\.\.`/],
  ['.. within', archive(file('a/../../x')), 'a/../../x', /`\.\.`/],
  ['.. in a long name', archive(longName('../x'), file('x')), '../x', /`\.\.`/],
  ['an empty name', archive(file('')), '', /empty/],
  ['a NUL in a name', archive(pax({ path: 'a\0b' }), file('x')), 'a\0b', /NUL/],
  ['a part of a name that is too long', archive(pax({ path: long(256) }), file('x')), long(256), /255 bytes/],
  ['a path that is too long', archive(pax({ path: `${'aa/'.repeat(1500)}x` }), file('x')), undefined, /4095/],
  ['a hard link out of the tree', archive(hardlink('x', '../../etc/shadow')), 'x', /hard link.*`\.\.`/],
  ['a hard link to an absolute path', archive(hardlink('x', '/etc/shadow')), 'x', /hard link.*absolute/],
  ['a hard link to nothing', archive(hardlink('x', 'y')), 'x', /not in the archive before/],
  [
    'a hard link to what comes later',
    archive(hardlink('x', 'y'), file('y')),
    'x',
    /not in the archive before/,
  ],
  ['a hard link to a symlink', archive(symlink('y', '/etc'), hardlink('x', 'y')), 'x', /which is a symlink/],
  ['a hard link to a directory', archive(directory('y/'), hardlink('x', 'y')), 'x', /which is a directory/],
  [
    'a file below a symlink out of the tree',
    archive(symlink('a', '../..'), file('a/x')),
    'a/x',
    /out of the tree/,
  ],
  [
    'a file below an absolute symlink to what is missing',
    archive(symlink('a', '/tmp'), file('a/x')),
    'a/x',
    /no such directory/,
  ],
  [
    'a file below a symlink to a file',
    archive(file('f'), symlink('a', 'f'), file('a/x')),
    'a/x',
    /which is a file/,
  ],
  [
    'a file below symlinks in a circle',
    archive(symlink('a', 'b'), symlink('b', 'a'), file('a/x')),
    'a/x',
    /circle/,
  ],
  [
    'a hard link through a symlink out of the tree',
    archive(symlink('a', '..'), hardlink('x', 'a/y')),
    'x',
    /out of the tree/,
  ],
  ['a file below a file', archive(file('a'), file('a/x')), 'a/x', /below "a", which is a file/],
  ['a symlink to nowhere', archive(raw({ name: 'a', type: '2' })), 'a', /nowhere/],
  ['a file twice', archive(file('a'), file('./a')), './a', /twice/],
  [
    'a file that becomes a symlink',
    archive(file('a'), symlink('a', '/etc')),
    'a',
    /symlink here, and was a file/,
  ],
  ['a directory that becomes a symlink', archive(file('a/x'), symlink('a', '/etc')), 'a', /was a directory/],
  ['a symlink that becomes a directory', archive(symlink('a', '/etc'), directory('a')), 'a', /was a symlink/],
  ['a device outside of dev', archive(raw({ name: 'srv/sda', type: '4' })), 'srv/sda', /device node/],
  [
    'a device below a symlink named dev',
    archive(directory('srv'), symlink('dev', 'srv'), raw({ name: 'dev/sda', type: '4' })),
    'dev/sda',
    /device node/,
  ],
  ['an unknown type', archive(raw({ name: 'a', type: 'V' })), 'a', /type.*"V"/],
  ['a sparse file of old GNU', archive(raw({ name: 'a', type: 'S', magic: 'ustar  \0' })), 'a', /type.*"S"/],
  ['a sparse file of pax', archive(pax({ 'GNU.sparse.major': '1' }), file('a')), 'a', /sparse/],
  [
    'a symlink with contents',
    archive(raw({ name: 'a', type: '2', target: 'b', content: 'x' })),
    'a',
    /symlink with contents/,
  ],
  [
    'a directory with contents',
    archive(raw({ name: 'a', type: '5', content: 'x' })),
    'a',
    /directory with contents/,
  ],
  ['a file named like a directory', archive(file('a/')), 'a/', /name of a directory/],
  ['sizes that do not agree', archive(pax({ size: '3 ' }), file('a', 'abc')), 'a', /size/],
  [
    'a size that is no number',
    archive(raw({ name: 'a', size: 'zzzzzzzzzzz' })),
    undefined,
    /format is broken/,
  ],
  ['a uid that is no number', archive(pax({ uid: '-1' }), file('a')), 'a', /uid/],
  [
    'a pax record that is longer than it is',
    archive(raw({ name: 'p', type: 'x', content: '99 path=a\n' }), file('a')),
    undefined,
    /pax header is broken/,
  ],
  [
    'a global header that sets a path',
    archive(pax({ path: 'evil' }, 'g'), file('a')),
    'a',
    /global pax header.*"path"/,
  ],
  ['a large pax header', archive(pax({ comment: long(2 ** 21) }), file('a')), 'a', /larger than 1 MiB/],
  [
    'a pax header larger than a reader takes',
    archive(pax({ comment: long(5 * 2 ** 20) }), file('a')),
    undefined,
    /max size|MiB of headers/,
  ],
  [
    'pax headers without end',
    archive(...Array.from({ length: 9 }, () => pax({ comment: long(2 ** 20) }))),
    undefined,
    /MiB of headers/,
  ],
  ['empty blocks without end', archive(file('a'), Buffer.alloc(2 ** 23)), undefined, /or of nothing/],
  [
    'an archive behind the archive',
    Buffer.concat([archive(file('a')), archive(file('b'))]),
    'b',
    /after the end/,
  ],
  [
    'bytes behind the archive',
    Buffer.concat([archive(file('a')), Buffer.alloc(512, 'x')]),
    'a',
    /format is broken/,
  ],
  [
    'some bytes behind the archive',
    Buffer.concat([archive(file('a')), Buffer.from('x')]),
    'a',
    /format is broken/,
  ],
  ['an archive cut off in a file', file('a', long(2000)).subarray(0, 1024), 'a', /Unexpected end/],
  ['an archive cut off between files', file('a'), 'a', /cut off/],
  [
    'an archive cut off in a header',
    Buffer.concat([file('a'), file('b').subarray(0, 100)]),
    'a',
    /Unexpected end/,
  ],
  ['a broken checksum', archive(file('a'), file('b').fill('c', 0, 1)), 'a', /format is broken/],
  ['no archive at all', Buffer.from('<html>not found</html>'.repeat(100)), undefined, /format is broken/],
  ['nothing', Buffer.alloc(0), undefined, /cut off/],
  ['nothing in it', END, undefined, /nothing in it/],
  [
    'too many entries',
    archive(file('a'), file('b'), file('c')),
    undefined,
    /more than 2 entries/,
    { entries: 2 },
  ],
  [
    'too many bytes',
    archive(file('a', long(70_000))),
    undefined,
    /unpacks to more than 65536 bytes/,
    { uncompressed: 65_536 },
  ],
  [
    'too dense a packing',
    zstdCompressSync(archive(file('a', '\0'.repeat(300 * 2 ** 20)))),
    undefined,
    /100 times its size/,
  ],
  [
    'gzip that is cut off',
    gzipSync(archive(file('a', long(5000)))).subarray(0, 60),
    undefined,
    /gzip: .*unexpected end/,
  ],
  [
    'zstd that is broken',
    Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.alloc(100, 'x')]),
    undefined,
    /zstd: /,
  ],
  [
    'bytes behind zstd',
    Buffer.concat([zstdCompressSync(archive(file('a'))), Buffer.from('garbage')]),
    undefined,
    /zstd: /,
  ],
  [
    'bytes behind gzip',
    Buffer.concat([gzipSync(archive(file('a'))), Buffer.from('garbage')]),
    undefined,
    /gzip: /,
  ],
]

describe('hostile archives are refused', () => {
  test.each(HOSTILE)('%s', async (_, bytes, entry, why, limits) => {
    await using folder = await workplace()
    const rewriting = rewriteArchive({
      input: Readable.from([bytes]),
      output: join(folder.path, 'out.tar.zst'),
      origin: { name: 'the archive evil.tar' },
      ...(limits && { limits }),
      signal: new AbortController().signal,
    })
    const error = (await rewriting.then(
      () => undefined,
      (thrown) => thrown,
    )) as ImagebuildError
    expect(error).toBeInstanceOf(ImagebuildError)
    expect(error).toMatchObject({
      code: 'definition_invalid',
      what: expect.stringContaining('the archive evil.tar'),
    })
    expect(error.why).toMatch(why)
    if (entry !== undefined) expect(error.what).toContain(`its entry ${JSON.stringify(entry)}`)
    expect(await readdir(folder.path), 'nothing is left').toEqual([])
  })
})
