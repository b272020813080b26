import { z } from 'zod'
import { jsonOfRules } from './rules.ts'
import { configFile, imageFile } from './schema.ts'

/** Files in schemas/, as `imagebuild schema` writes them. */
export const SCHEMA_FILES = ['image.schema.json', 'imagebuild.schema.json'] as const
export type SchemaFile = (typeof SCHEMA_FILES)[number]

/**
 * The JSON Schemas of image.yaml and imagebuild.yaml: what editors complete and check by. Draft 7, since that
 * is what yaml-language-server knows best. They describe what is typed (`8G`), not what comes of it.
 */
export function generateSchemas(): Record<SchemaFile, string> {
  return {
    'image.schema.json': render(
      'image.schema.json',
      'An image of imagebuild (images/<name>/image.yaml)',
      imageFile,
    ),
    'imagebuild.schema.json': render(
      'imagebuild.schema.json',
      'Where imagebuild builds (imagebuild.yaml)',
      configFile,
    ),
  }
}

function render(file: SchemaFile, title: string, schema: z.ZodType): string {
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    target: 'draft-7',
    io: 'input',
    override: ({ zodSchema, jsonSchema }) => {
      const rules = jsonOfRules(zodSchema)
      if (rules.length > 0) jsonSchema.allOf = rules as NonNullable<typeof jsonSchema.allOf>
    },
  })
  return `${JSON.stringify({ $schema, $id: `urn:imagebuild:${file}`, title, ...rest }, null, 2)}\n`
}
