import { readFile } from 'node:fs/promises'
import { digestOf, download, exists } from './download.ts'
import { failure, parameterError } from './errors.ts'
import { formatted, string } from './parameters.ts'
import { type Call, get, on, post, type Route } from './router.ts'

/**
 * The appliances that the node offers: a file of paragraphs, `Field: value` per line, continued by lines that begin
 * with a blank. A location without a scheme cannot be fetched, and its paragraph is left out, as is one without
 * package, version or type.
 */
export type Appliance = Record<string, string>

export function parseAppliances(text: string): Appliance[] {
  return text
    .split(/\n{2,}/)
    .map(parseParagraph)
    .filter((appliance) => appliance !== undefined)
}

function parseParagraph(paragraph: string): Appliance | undefined {
  const found: Appliance = {}
  for (const field of paragraph.split(/\n(?=\S)/)) {
    const [, name, value] = /^([\w-]+):[ \t]*(.*)$/s.exec(field.trimEnd()) ?? []
    if (name === undefined || value === undefined) continue
    if (name.toLowerCase() !== 'description') found[name.toLowerCase()] = value.trim()
    else {
      const [headline = '', ...lines] = value.split('\n')
      found.headline = headline
      found.description = lines
        .map((line) => line.trim())
        .join(' ')
        .trim()
    }
  }
  const { location, version, type } = found
  const template = location?.split('/').at(-1)
  if (found.package === undefined || version === undefined || type === undefined) return undefined
  if (template === undefined || !/^https?:\/\//.test(location ?? '')) return undefined
  return { ...found, template }
}

async function readAppliances(call: Call): Promise<Appliance[]> {
  const { appliances } = call.lab
  if (appliances === undefined) return []
  return parseAppliances(await readFile(appliances, 'utf8').catch(() => ''))
}

/** POST /nodes/{node}/aplinfo */
async function fetchAppliance(call: Call): Promise<string> {
  const { storage } = call
  const wanted = call.need('template')
  const appliance = (await readAppliances(call)).find(({ template }) => template === wanted)
  if (!appliance) throw parameterError({ template: 'no such template' })
  if (storage.type !== 'dir' || !storage.content.includes('vztmpl')) {
    throw failure(`storage '${storage.id}' does not support templates`)
  }
  const algorithm = appliance.sha512sum === undefined ? 'md5' : 'sha512'
  const expected = appliance[`${algorithm}sum`]?.toLowerCase()
  if (expected === undefined) throw failure(`template '${wanted}' has no checksum`)
  const { path } = storage.place('vztmpl', wanted)
  return call.task('download', wanted, async (task) => {
    if (await exists(path)) {
      task.log('calculating checksum of existing file...')
      if ((await digestOf(path, algorithm, task.signal)) === expected) {
        task.log('OK, got correct file already, no need to download')
        return
      }
      task.log('mismatch')
    }
    await download(
      { url: appliance.location as string, path, storage, checksum: { algorithm, expected } },
      task,
    )
  })
}

export const APPLIANCE_ROUTES: readonly Route[] = [
  get('/nodes/{node}/aplinfo', 'all', {}, readAppliances),
  post(
    '/nodes/{node}/aplinfo',
    on('/storage/{storage}', 'Datastore.AllocateTemplate'),
    { storage: formatted('storage'), template: string({ maxLength: 255 }) },
    fetchAppliance,
  ),
]
