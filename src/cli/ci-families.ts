import { z } from 'zod'
import { ImagebuildError } from '../core/errors.ts'
import { name } from '../definition/formats.ts'
import type { CiResult } from './ci-result.ts'

/** What `ci plan --matrix` prints. */
const matrix = z.object({
  include: z.array(z.object({ family: name, images: z.string().transform((text) => text.split(' ')) })),
})

/**
 * A sentence for each family that no result tells of: its job has ended before it could write one, and silence would pass for
 * success.
 * @throws ImagebuildError `usage` where the text is not that of `ci plan --matrix`
 */
export function familiesWithout({ images }: Pick<CiResult, 'images'>, text: string): string[] {
  const told = new Set(images.map(({ image }) => image))
  return read(text)
    .include.filter(({ images }) => !images.some((image) => told.has(image)))
    .map(({ family }) => `there is no result of ${family}: look into the log of its job`)
}

function read(text: string): z.output<typeof matrix> {
  try {
    return matrix.parse(JSON.parse(text))
  } catch (cause) {
    throw new ImagebuildError({
      code: 'usage',
      what: '--families is not what `imagebuild ci plan --matrix` prints',
      why: cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message,
      cause,
    })
  }
}
