import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { INIT, tinyArchive } from './tiny-archive.ts'

/** The tiny container, which looks like a Debian with systemd 252 as its init to who looks at its files. */
export function systemdArchive(): Promise<Buffer> {
  return tinyArchive({
    async prepare(root) {
      const files = {
        'etc/debian_version': '12.0\n',
        'etc/os-release': 'ID=debian\nVERSION_ID="12"\n',
        'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n',
        'etc/shadow': 'root:*:19000:0:99999:7:::\n',
        'etc/network/interfaces': '',
        'etc/systemd/system.conf': '',
        'lib/systemd/systemd': linkedWith('libsystemd-shared-252.so'),
        [INIT_SCRIPT]: INIT,
      }
      for (const [path, content] of Object.entries(files)) {
        await mkdir(dirname(join(root, path)), { recursive: true })
        await writeFile(join(root, path), content, { mode: 0o755 })
      }
      await symlink('/lib/systemd/systemd', join(root, 'sbin/init'))
    },
  })
}

const HEADER = 64
const SECTION = 64
const SEGMENT = 56
const DYNAMIC_ENTRY = 16

/** what the program in place of systemd has the shell run */
const INIT_SCRIPT = 'etc/init.sh'

/** execve("/bin/sh", ["/bin/sh", "/etc/init.sh"], NULL): 28 bytes of instructions, then what they point at. */
const EXEC_INIT = Buffer.concat([
  Buffer.from(
    '488d3d15000000' + '6a00' + '488d0514000000' + '5057' + '4889e6' + '31d2' + '6a3b58' + '0f05',
    'hex',
  ),
  Buffer.from(`/bin/sh\0/${INIT_SCRIPT}\0`),
])

/**
 * A program for amd64 that runs the shell, and says which library it needs: nobody loads that, since it names no
 * program that would.
 */
export function linkedWith(library: string): Buffer {
  const sections = Buffer.from('\0.dynstr\0.dynamic\0.shstrtab\0')
  const strings = Buffer.from(`\0${library}\0`)
  const dynamicAt = HEADER + 2 * SEGMENT
  const dynamic = table([
    [1n, 1n],
    [5n, BigInt(dynamicAt + 4 * DYNAMIC_ENTRY)],
    [10n, BigInt(strings.length)],
    [0n, 0n],
  ])
  const stringsAt = dynamicAt + dynamic.length
  const namesAt = stringsAt + strings.length
  const codeAt = namesAt + sections.length
  const sectionsAt = Math.ceil((codeAt + EXEC_INIT.length) / 8) * 8
  const file = Buffer.alloc(sectionsAt + 4 * SECTION)
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  // ET_DYN for EM_X86_64; then where program headers and section headers are, of what size and how many.
  file.writeUInt16LE(3, 16)
  file.writeUInt16LE(62, 18)
  file.writeUInt32LE(1, 20)
  file.writeBigUInt64LE(BigInt(codeAt), 24)
  file.writeBigUInt64LE(BigInt(HEADER), 32)
  file.writeBigUInt64LE(BigInt(sectionsAt), 40)
  for (const [index, value] of [HEADER, SEGMENT, 2, SECTION, 4, 3].entries()) {
    file.writeUInt16LE(value, 52 + 2 * index)
  }
  file.set(segment(1, 5, 0, file.length), HEADER)
  file.set(segment(2, 4, dynamicAt, dynamic.length), HEADER + SEGMENT)
  file.set(dynamic, dynamicAt)
  file.set(strings, stringsAt)
  file.set(sections, namesAt)
  file.set(EXEC_INIT, codeAt)
  file.set(section(1, 3, stringsAt, strings.length), sectionsAt + SECTION)
  file.set(section(9, 6, dynamicAt, dynamic.length, 1, DYNAMIC_ENTRY), sectionsAt + 2 * SECTION)
  file.set(section(18, 3, namesAt, sections.length), sectionsAt + 3 * SECTION)
  return file
}

function table(pairs: readonly (readonly [bigint, bigint])[]): Buffer {
  const bytes = Buffer.alloc(pairs.length * DYNAMIC_ENTRY)
  for (const [index, value] of pairs.flat().entries()) bytes.writeBigUInt64LE(value, 8 * index)
  return bytes
}

/**
 * A program header. Everything is loaded at the address that is its place in the file.
 * @param type 1: loaded, 2: dynamic
 * @param flags 4: readable, 1: executable
 */
function segment(type: number, flags: number, at: number, size: number): Buffer {
  const bytes = Buffer.alloc(SEGMENT)
  bytes.writeUInt32LE(type, 0)
  bytes.writeUInt32LE(flags, 4)
  for (const [index, value] of [at, at, at, size, size, 8].entries()) {
    bytes.writeBigUInt64LE(BigInt(value), 8 + 8 * index)
  }
  return bytes
}

/** A section header; 3: strings, 6: dynamic. */
function section(name: number, type: number, at: number, size: number, link = 0, entry = 0): Buffer {
  const bytes = Buffer.alloc(SECTION)
  bytes.writeUInt32LE(name, 0)
  bytes.writeUInt32LE(type, 4)
  for (const [index, value] of [2, at, at, size].entries()) {
    bytes.writeBigUInt64LE(BigInt(value), 8 + 8 * index)
  }
  bytes.writeUInt32LE(link, 40)
  bytes.writeBigUInt64LE(8n, 48)
  bytes.writeBigUInt64LE(BigInt(entry), 56)
  return bytes
}
