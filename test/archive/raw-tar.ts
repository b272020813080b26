/** Archives as an attacker writes them: block by block, with anything in any field. */
export interface RawEntry {
  name: string | Buffer
  /** the type's character; a file unless given */
  type?: string
  content?: string | Buffer
  /** what the header says, if not what is true */
  size?: number | string
  target?: string
  mode?: number
  uid?: number
  mtime?: number
  magic?: string
}

export const END = Buffer.alloc(1024)

export function raw(entry: RawEntry): Buffer {
  const content = Buffer.from(entry.content ?? '')
  const header = Buffer.alloc(512)
  Buffer.from(entry.name).copy(header, 0, 0, 100)
  const octal = (value: number, at: number, digits: number) =>
    header.write(value.toString(8).padStart(digits, '0'), at)
  octal(entry.mode ?? 0o644, 100, 7)
  octal(entry.uid ?? 0, 108, 7)
  octal(0, 116, 7)
  const size = entry.size ?? content.length
  if (typeof size === 'string') header.write(size, 124)
  else octal(size, 124, 11)
  octal(entry.mtime ?? 0, 136, 11)
  header.write('        ', 148)
  header.write(entry.type ?? '0', 156)
  header.write(entry.target ?? '', 157)
  header.write(entry.magic ?? 'ustar\x0000', 257)
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  )
  header[154] = 0
  return Buffer.concat([header, content, Buffer.alloc(-content.length & 511)])
}

export function pax(records: Record<string, string | Buffer>, type = 'x'): Buffer {
  const lines = Object.entries(records).map(([key, value]) => {
    const body = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')])
    let length = body.length
    while (length !== body.length + String(length).length) length = body.length + String(length).length
    return Buffer.concat([Buffer.from(String(length)), body])
  })
  return raw({ name: 'PaxHeader', type, content: Buffer.concat(lines) })
}

export const directory = (name: string) => raw({ name, type: '5', mode: 0o755 })
export const symlink = (name: string, target: string) => raw({ name, type: '2', target })
export const hardlink = (name: string, target: string) => raw({ name, type: '1', target })
export const file = (name: string, content = 'x') => raw({ name, content })

export function archive(...parts: Buffer[]): Buffer {
  return Buffer.concat([...parts, END])
}
