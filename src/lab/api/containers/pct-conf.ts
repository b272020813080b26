import { execa } from 'execa'
import { failure } from '../errors.ts'
import type { GuestConfig } from '../guests/store.ts'
import { CONTAINER_OPTIONS } from './options.ts'

/** A container's configuration as a file, which backups carry along. */

/** its place in a backup */
export const PCT_CONF = './etc/vzdump/pct.conf'

/** Notes first, as comment lines; then one `key: value` each, by name. */
export function printPctConf(config: GuestConfig): string {
  const { description, ...options } = config
  const notes =
    description === undefined ? [] : String(description).replace(/\n$/, '').split('\n').map(comment)
  const lines = Object.keys(options)
    .sort()
    .map((name) => `${name}: ${options[name]}`)
  return [...notes, ...lines, ''].join('\n')
}

function comment(line: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not stand in the file
  return `#${line.replace(/[\x00-\x1f%:]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0').toUpperCase()}`)}`
}

export function parsePctConf(text: string): GuestConfig {
  const config: GuestConfig = {}
  const notes: string[] = []
  for (const line of text.split('\n')) {
    // Sections are snapshots, which a backup does not restore.
    if (line.startsWith('[')) break
    if (line.startsWith('#')) {
      notes.push(
        line
          .slice(1)
          .replace(/%([0-9A-F]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
      )
      continue
    }
    const [, name, value] = /^([a-z][\w-]*):\s*(.*?)\s*$/.exec(line) ?? []
    const rule = name === undefined ? undefined : CONTAINER_OPTIONS[name]
    if (rule === undefined || name === undefined || value === undefined) continue
    config[name] = rule.type === 'string' ? value : Number(value)
  }
  if (notes.length > 0) config.description = `${notes.join('\n')}\n`
  return config
}

/** The configuration in a backup. @throws ApiError 500 */
export async function backedUpConfig(archive: string): Promise<GuestConfig> {
  const args = ['--extract', '--to-stdout', '--occurrence=1', '--file', archive, PCT_CONF]
  const { exitCode, stdout } = await execa('tar', args, { reject: false })
  if (exitCode !== 0 || stdout === '') throw failure('backup contains no configuration')
  return parsePctConf(stdout)
}
