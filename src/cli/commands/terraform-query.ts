import { text } from 'node:stream/consumers'
import { z } from 'zod'
import { ImagebuildError } from '../../core/errors.ts'

/** Which template is asked for. */
export interface Wanted {
  image: string
  /** `current`, `previous` or a version */
  selector: string
  node?: string
  target?: string
}

/** Terraform has strings only, and where a module's variable is not set, an empty one. */
const optional = z
  .string()
  .transform((value) => (value === '' ? undefined : value))
  .optional()

const query = z.strictObject({
  image: z.string().min(1),
  selector: optional,
  node: optional,
  target: optional,
})

/**
 * The query of Terraform's data source `external`: `image` (also `name@selector`), and if need be `selector`, `node`
 * and `target`.
 * @throws ImagebuildError `usage`
 */
export async function readQuery(stdin: NodeJS.ReadableStream): Promise<Wanted> {
  const { data, error } = query.safeParse(parse(await text(stdin)))
  if (data === undefined) {
    throw wrong(error.issues.map(({ path, message }) => [...path, message].join(': ')).join('\n'))
  }
  const [image = '', inName] = data.image.split('@')
  const { node, target } = data
  return {
    image,
    selector: data.selector ?? inName ?? 'current',
    ...(node !== undefined && { node }),
    ...(target !== undefined && { target }),
  }
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch (cause) {
    throw wrong((cause as Error).message)
  }
}

function wrong(why: string): ImagebuildError {
  return new ImagebuildError({
    code: 'usage',
    what: 'what stands on stdin is no query of Terraform’s data source `external`',
    why,
    next: 'write: query = { image = "debian-base" }, and if need be selector, node and target',
  })
}
