/**
 * Writes a small ISO 9660 image: one directory of files, with the names and permissions that Linux wants
 * through Rock Ridge. After ECMA-119 (the image), SUSP 1.12 (how extensions are attached) and RRIP 1.10 (the
 * extensions). Numbers in comments are sections of ECMA-119 unless another is named.
 */

export interface IsoFile {
  /** as Linux shall show it */
  name: string
  content: Uint8Array | string
}

/** Bytes of a logical sector and of a logical block (6.1.2, 6.2.2). */
const SECTOR = 2048

/** Sectors: 16 of system area (6.2.1), the descriptors, both path tables, the root directory, then the files. */
const PRIMARY_DESCRIPTOR = 16
const TERMINATOR = 17
const PATH_TABLE_LITTLE = 18
const PATH_TABLE_BIG = 19
const ROOT_DIRECTORY = 20

/** File modes, POSIX (RRIP 4.1.1). A seed holds a private key: nobody but root reads it where it is mounted. */
const DIRECTORY_MODE = 0o040500
const FILE_MODE = 0o100400

/** File flag of a directory (9.1.6). */
const DIRECTORY_FLAG = 2

/**
 * The image. The same files and date give the same bytes.
 * @param volumeId at most 32 characters; `cidata` makes it a NoCloud seed
 * @param date of the volume and of all files
 * @throws TypeError for names that are too long, or more files than one sector can list
 */
export function iso9660(volumeId: string, files: readonly IsoFile[], date: Date): Buffer {
  if (volumeId.length > 32) throw new TypeError(`the volume id ${volumeId} is longer than 32 characters`)
  let sector = ROOT_DIRECTORY + 1
  const placed = files
    .map((file) => ({
      name: file.name,
      iso: isoName(file.name),
      content: typeof file.content === 'string' ? Buffer.from(file.content) : file.content,
    }))
    // In the order of their ISO names (9.3).
    .sort((a, b) => (a.iso < b.iso ? -1 : 1))
    .map((file) => {
      const start = sector
      sector += Math.ceil(file.content.length / SECTOR)
      return { ...file, start }
    })
  if (new Set(placed.map((file) => file.iso)).size < placed.length) {
    throw new TypeError('two names differ only in characters that ISO 9660 does not know')
  }
  const image = Buffer.alloc(sector * SECTOR)
  const root = { start: ROOT_DIRECTORY, length: SECTOR, flags: DIRECTORY_FLAG, date }

  // 6.8.2.2: the first two records stand for the directory itself and its parent.
  const directory = Buffer.concat([
    directoryRecord({
      ...root,
      iso: '\0',
      extensions: [sharingProtocol(), posix(DIRECTORY_MODE, 2), rockRidge()],
    }),
    directoryRecord({ ...root, iso: '\x01', extensions: [posix(DIRECTORY_MODE, 2)] }),
    ...placed.map(({ name, iso, start, content }) =>
      directoryRecord({
        iso,
        start,
        length: content.length,
        flags: 0,
        date,
        extensions: [posix(FILE_MODE, 1), alternateName(name)],
      }),
    ),
  ])
  if (directory.length > SECTOR) throw new TypeError('too many files for one sector of directory')
  directory.copy(image, ROOT_DIRECTORY * SECTOR)
  for (const { start, content } of placed) image.set(content, start * SECTOR)

  // 9.4: the only entry of a path table is the root, whose name is one zero byte and whose parent is itself.
  const pathTableLength = 10
  for (const [at, littleEndian] of [
    [PATH_TABLE_LITTLE, true],
    [PATH_TABLE_BIG, false],
  ] as const) {
    const table = image.subarray(at * SECTOR)
    table[0] = 1
    if (littleEndian) table.writeUInt32LE(ROOT_DIRECTORY, 2)
    else table.writeUInt32BE(ROOT_DIRECTORY, 2)
    if (littleEndian) table.writeUInt16LE(1, 6)
    else table.writeUInt16BE(1, 6)
  }

  const primary = image.subarray(PRIMARY_DESCRIPTOR * SECTOR, (PRIMARY_DESCRIPTOR + 1) * SECTOR)
  // 8.4, by byte position less one; text that nobody set is spaces, a time that nobody set is sixteen zeros.
  primary.fill(' ', 8, 72).fill(' ', 190, 813)
  primary[0] = 1
  primary.write('CD001\x01', 1, 'latin1')
  primary.write(volumeId, 40, 'latin1')
  both32(sector, primary, 80)
  both16(1, primary, 120)
  both16(1, primary, 124)
  both16(SECTOR, primary, 128)
  both32(pathTableLength, primary, 132)
  primary.writeUInt32LE(PATH_TABLE_LITTLE, 140)
  primary.writeUInt32BE(PATH_TABLE_BIG, 148)
  directoryRecord({ ...root, iso: '\0', extensions: [] }).copy(primary, 156)
  for (const [at, digits] of [
    [813, longDate(date)],
    [830, longDate(date)],
    [847, '0'.repeat(16)],
    [864, '0'.repeat(16)],
  ] as const) {
    primary.write(digits, at, 'latin1')
  }
  primary[881] = 1

  // 8.3
  const terminator = image.subarray(TERMINATOR * SECTOR)
  terminator[0] = 255
  terminator.write('CD001\x01', 1, 'latin1')
  return image
}

/** The name for readers without Rock Ridge: letters, digits and `_` (7.4.1), a dot, a version (7.5.1), 30 characters at most (7.5.2). */
function isoName(name: string): string {
  const plain = name.toUpperCase().replaceAll(/[^A-Z0-9_]/g, '_')
  if (name === '' || plain.length > 30) throw new TypeError(`${JSON.stringify(name)} is no name for ISO 9660`)
  return `${plain}.;1`
}

interface DirectoryRecord {
  iso: string
  start: number
  length: number
  flags: number
  date: Date
  extensions: Buffer[]
}

/** 9.1. The system use field holds the extensions; both it and the record have an even length. */
function directoryRecord({ iso, start, length, flags, date, extensions }: DirectoryRecord): Buffer {
  const head = Buffer.alloc(33 + iso.length + ((iso.length + 1) % 2))
  both32(start, head, 2)
  both32(length, head, 10)
  head.set(
    [
      date.getUTCFullYear() - 1900,
      date.getUTCMonth() + 1,
      date.getUTCDate(),
      date.getUTCHours(),
      date.getUTCMinutes(),
      date.getUTCSeconds(),
      0,
    ],
    18,
  )
  head[25] = flags
  both16(1, head, 28)
  head[32] = iso.length
  head.write(iso, 33, 'latin1')
  const record = Buffer.concat([head, ...extensions])
  const padded = record.length % 2 === 0 ? record : Buffer.concat([record, Buffer.alloc(1)])
  padded[0] = padded.length
  return padded
}

/** SUSP 5.3: in the very first record, says that there are extensions, and that none of the field is skipped. */
function sharingProtocol(): Buffer {
  return entry('SP', Buffer.from([0xbe, 0xef, 0]))
}

/** SUSP 5.5: which extension; its description and source may be empty. */
function rockRidge(): Buffer {
  const identifier = Buffer.from('RRIP_1991A', 'latin1')
  return entry('ER', Buffer.concat([Buffer.from([identifier.length, 0, 0, 1]), identifier]))
}

/** RRIP 4.1.1: mode, links, and root as owner and group. */
function posix(mode: number, links: number): Buffer {
  const data = Buffer.alloc(32)
  both32(mode, data, 0)
  both32(links, data, 8)
  return entry('PX', data)
}

/** RRIP 4.1.4: the name itself. */
function alternateName(name: string): Buffer {
  return entry('NM', Buffer.concat([Buffer.alloc(1), Buffer.from(name, 'utf8')]))
}

/** SUSP 4: signature, length, version. */
function entry(signature: string, data: Buffer): Buffer {
  return Buffer.concat([Buffer.from(signature, 'latin1'), Buffer.from([4 + data.length, 1]), data])
}

/** 7.2.3 and 7.3.3: each number twice, least and most significant byte first. */
function both16(value: number, into: Buffer, at: number): void {
  into.writeUInt16LE(value, at)
  into.writeUInt16BE(value, at + 2)
}

function both32(value: number, into: Buffer, at: number): void {
  into.writeUInt32LE(value, at)
  into.writeUInt32BE(value, at + 4)
}

/** 8.4.26.1: `YYYYMMDDhhmmss` and hundredths; the zone, a byte after it, is zero. */
function longDate(date: Date): string {
  return `${date.toISOString().replaceAll(/\D/g, '').slice(0, 14)}00`
}
