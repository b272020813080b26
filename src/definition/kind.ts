import { z } from 'zod'
import { closest } from '../core/did-you-mean.ts'
import { IMAGE_KINDS, type ImageKind, lxcFile, vmFile } from './image-schema.ts'
import { hasKey } from './schema-shape.ts'
import type { Path } from './yaml-file.ts'

/** The schema that an image.yaml of this kind is read by. */
export function schemaOfKind(kind: ImageKind): typeof vmFile | typeof lxcFile {
  return kind === 'lxc' ? lxcFile : vmFile
}

/**
 * Which kind of image a file is about. One that misspells it is taken for what it is most like: all that is wrong
 * with the rest of it is then told in the same go.
 * @param value of an image.yaml, whatever it holds
 */
export function kindOf(value: unknown): { kind: ImageKind; misspelt: boolean } {
  const written = (value as { kind?: unknown } | null | undefined)?.kind
  const known = IMAGE_KINDS.find((kind) => kind === written)
  if (known !== undefined || written === undefined) return { kind: known ?? 'vm', misspelt: false }
  return { kind: (closest(String(written), IMAGE_KINDS) as ImageKind | undefined) ?? 'vm', misspelt: true }
}

/** As `schemaOfKind`, for a file whose `kind` is wrong: what is allowed there is all that there are. */
export function schemaOfAnyKind(kind: ImageKind): z.ZodType {
  return schemaOfKind(kind).extend({ kind: z.enum(IMAGE_KINDS) })
}

/** The kind of image that has this key at this place, where the file's own kind does not. */
export function kindWithKey(path: Path, key: string, own: ImageKind): ImageKind | undefined {
  return IMAGE_KINDS.find((kind) => kind !== own && hasKey(schemaOfKind(kind), path, key))
}
