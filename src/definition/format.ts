import {
  type Document,
  isMap,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  parseDocument,
  Scalar,
  type ScalarTag,
  type Tags,
  visit,
  type YAMLMap,
} from 'yaml'
import type { z } from 'zod'
import { configFile } from './config-schema.ts'
import { InvalidDefinition } from './diagnostics.ts'
import { keepColumns, keepKeyComments, padFlowMaps } from './format-places.ts'
import { kindOf, schemaOfKind } from './kind.ts'
import { elementOf, keysOf, schemaOfKey } from './schema-shape.ts'
import { asPyYaml, YamlFile } from './yaml-file.ts'

/** `fragment` is cloud-config, whose keys stay in their order. */
export type DocumentKind = 'image' | 'config' | 'fragment'

/**
 * The text in its one canonical form: keys in the order of the schema, two spaces, single quotes where quotes
 * are needed; comments and their columns, blank lines and what the values mean stay. Formatting twice changes nothing more.
 * @param file for error messages
 * @throws InvalidDefinition for text that is not YAML
 */
export function formatDocument(text: string, kind: DocumentKind = 'image', file = 'image.yaml'): string {
  const version = kind === 'fragment' ? '1.1' : '1.2'
  const { diagnostics } = new YamlFile(file, text, version)
  if (diagnostics.length > 0) throw new InvalidDefinition(diagnostics)
  // The schema line belongs to the file, whatever key it stands above.
  const [header = ''] = SCHEMA_LINE.exec(text) ?? []
  const written = text.slice(header.length)
  const document = parseDocument(written, {
    version,
    customTags: version === '1.1' ? (tags) => asTyped(asPyYaml(tags)) : asTyped,
  })
  keepKeyComments(document, written)
  if (kind === 'config') sortKeys(document.contents, configFile)
  if (kind === 'image') sortKeys(document.contents, schemaOfKind(kindOf(document.toJS()).kind))
  singleQuotes(document)
  const printed = document.toString({
    indent: 2,
    lineWidth: 0,
    singleQuote: true,
    flowCollectionPadding: false,
  })
  const body = keepColumns(padFlowMaps(printed), written)
  return header === '' ? body : `${header.trim()}\n\n${body}`
}

const SCHEMA_LINE = /^# yaml-language-server:[^\n]*\n\s*/

/** Numbers and the like keep their spelling: `0644`, `1.10` and `1_000` mean something to whoever wrote them. */
function asTyped(tags: Tags): Tags {
  return tags.map((tag) => {
    if (typeof tag !== 'object' || !('stringify' in tag) || !tag.tag.startsWith('tag:yaml.org,2002:'))
      return tag
    if (!/:(int|float|bool|null|timestamp)$/.test(tag.tag)) return tag
    const scalar = tag as ScalarTag
    return {
      ...scalar,
      stringify: (item, ...rest) => item.source ?? scalar.stringify?.(item, ...rest) ?? String(item.value),
    } satisfies ScalarTag
  })
}

function sortKeys(node: unknown, schema: z.core.$ZodType | undefined): void {
  if (schema === undefined) return
  if (isSeq(node)) {
    for (const item of node.items) sortKeys(item, elementOf(schema))
  } else if (isMap(node)) {
    const order = keysOf(schema)
    const place = (pair: Pair) => {
      const index = order.indexOf(keyText(pair))
      return index === -1 ? order.length : index
    }
    reorder(
      node,
      [...node.items].sort((a, b) => place(a) - place(b)),
    )
    for (const pair of node.items) sortKeys(pair.value, schemaOfKey(schema, keyText(pair)))
  }
}

/** Puts the pairs into a new order, with the comments and blank lines that belong to them. */
function reorder(map: YAMLMap, sorted: Pair[]): void {
  const [before, after] = [map.items[0]?.key as Node | undefined, sorted[0]?.key as Node | undefined]
  map.items = sorted as typeof map.items
  if (!before || !after) return
  // yaml keeps the comment above the first key at the map or at the key; it is about the key.
  if (map.commentBefore)
    before.commentBefore = [map.commentBefore, before.commentBefore].filter(Boolean).join('\n')
  map.commentBefore = after.commentBefore ?? null
  delete after.commentBefore
  if (before === after) return
  // The blank line above what is now the first key goes to what was first before.
  const spaced = sorted.some((pair) => pair.key !== after && (pair.key as Node).spaceBefore)
  if (after.spaceBefore && spaced) {
    before.spaceBefore = true
  }
  after.spaceBefore = false
}

function singleQuotes(document: Document): void {
  visit(document, {
    Scalar(_, node) {
      const plain = typeof node.value === 'string' && /^[\x20-\x26\x28-\x7e\u00a1-\uffff]*$/.test(node.value)
      if (node.type === Scalar.QUOTE_DOUBLE && plain) node.type = Scalar.QUOTE_SINGLE
    },
  })
}

function keyText(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : ''
}
