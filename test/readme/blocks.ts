import { readFileSync } from 'node:fs'

/** The examples of the documents: their fenced blocks, as they stand there. */

export const DOCUMENTS = [
  'README.md',
  'docs/ssh-certificates.md',
  'examples/README.md',
  'ci/README.md',
] as const
export type Document = (typeof DOCUMENTS)[number]

export interface Block {
  document: Document
  /** of its fence, counted from 1 */
  line: number
  /** `sh`, `yaml`, …; empty for what a program prints */
  language: string
  /** without the indentation that it has within a list */
  text: string
}

export function textOf(document: string): string {
  return readFileSync(new URL(`../../${document}`, import.meta.url), 'utf8')
}

export function blocksOf(document: Document): Block[] {
  const text = textOf(document)
  return [...text.matchAll(/^( *)```(\w*)\n([\s\S]*?)^ *```$/gm)].map(
    ({ index, 1: indent = '', 2: language = '', 3: content = '' }) => ({
      document,
      line: text.slice(0, index).split('\n').length,
      language,
      text: content.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
    }),
  )
}

/**
 * The one block with a line that begins so.
 * @throws Error where there is none, or more than one
 */
export function block(document: Document, begin: string): Block {
  const [found, ...more] = blocksOf(document).filter(({ text }) => hasLine(text, begin))
  if (found === undefined || more.length > 0)
    throw new Error(`${document} has ${found === undefined ? 'no' : 'more than one'} block with: ${begin}`)
  return found
}

export function hasLine(text: string, begin: string): boolean {
  return text.split('\n').some((line) => line.startsWith(begin))
}
