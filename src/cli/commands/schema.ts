import { ImagebuildError } from '../../core/errors.ts'
import { generateSchemas } from '../../definition/json-schema.ts'
import { print } from '../output.ts'

/** Prints what lies in schemas/, made anew from the code. */
export async function schema(file: string): Promise<void> {
  const text = generateSchemas()[`${file}.schema.json` as keyof ReturnType<typeof generateSchemas>]
  if (text === undefined) {
    throw new ImagebuildError({
      code: 'usage',
      what: `there is no schema for ${file}`,
      next: 'imagebuild schema image, or imagebuild schema imagebuild',
    })
  }
  print(text)
}
