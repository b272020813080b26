import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseDocument } from 'yaml'

/** `node parse-definitions.ts <images folder>`: reads each definition as YAML, once, and does nothing with it. */
const [folder = ''] = process.argv.slice(2)
for (const name of readdirSync(folder)) {
  parseDocument(readFileSync(join(folder, name, 'image.yaml'), 'utf8')).toJS()
}
