import { type Document, isCollection, isNode, Lexer, type Scalar, visit } from 'yaml'

/** What the library's printer moves, and people want to find where they have put it. */

/** Signs of the lexer that are no text: begin of a document, an error of a flow collection, begin of a scalar. */
const SIGNS = new Set(['\u0002', '\u0018', '\u001f'])

function tokensOf(text: string): string[] {
  return [...new Lexer().lex(text)].filter((token) => !SIGNS.has(token))
}

/** `key: # comment` keeps its comment, which would otherwise become the first line of the value. */
export function keepKeyComments(document: Document, text: string): void {
  visit(document, {
    Pair(_, { key, value }) {
      if (!isNode(key) || !isCollection(value) || !value.commentBefore) return
      const comment = /^[ \t]*:[ \t]+#([^\n]*)/.exec(text.slice(key.range?.[1]))?.[1]
      const [first, ...others] = value.commentBefore.split('\n')
      if (comment === undefined || first !== comment) return
      ;(key as Scalar).comment = comment
      value.commentBefore = others.length > 0 ? others.join('\n') : null
    },
  })
}

/** `{ a: b }` and `[a, b]`: the library knows one padding for both. */
export function padFlowMaps(text: string): string {
  const tokens = tokensOf(text)
  return tokens
    .map((token, index) => {
      if (token === '{' && /^[^\s}]/.test(tokens[index + 1] ?? '')) return '{ '
      return token === '}' && /[^\s{]$/.test(tokens[index - 1] ?? '') ? ' }' : token
    })
    .join('')
}

/** Comments behind something stay in their columns, as far as that has become no longer. */
export function keepColumns(text: string, original: string): string {
  const columns = Map.groupBy(trailingComments(original), ({ comment }) => comment)
  let [result, done] = ['', 0]
  for (const { comment, start, column, length } of trailingComments(text)) {
    const wanted = columns.get(comment)?.shift()?.column ?? column
    result += `${text.slice(done, start - (column - length))}${' '.repeat(Math.max(wanted - length, 1))}`
    done = start
  }
  return result + text.slice(done)
}

interface TrailingComment {
  comment: string
  /** where it begins in the text, and in its line */
  start: number
  column: number
  /** of what stands before it in its line */
  length: number
}

function trailingComments(text: string): TrailingComment[] {
  const found: TrailingComment[] = []
  let start = 0
  for (const token of tokensOf(text)) {
    const before = text.slice(text.lastIndexOf('\n', start - 1) + 1, start)
    if (token.startsWith('#') && before.trim() !== '')
      found.push({ comment: token, start, column: before.length, length: before.trimEnd().length })
    start += token.length
  }
  return found
}
