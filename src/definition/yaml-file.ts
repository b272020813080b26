import { readFileSync } from 'node:fs'
import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type Tags,
  type YAMLError,
} from 'yaml'
import { codeFrame, type Diagnostic, type Span } from './diagnostics.ts'
import { maskSecrets } from './literal-secrets.ts'

export type Path = readonly (string | number)[]

/**
 * One YAML file with its places: what is at a path, and where. Definitions are YAML 1.2. cloud-config is read
 * the way cloud-init itself reads it (YAML 1.1, where `0644` is octal and `no` is false).
 */
export class YamlFile {
  readonly file: string
  /** the parsed document as plain data; undefined after a syntax error */
  readonly value: unknown
  /** syntax errors, duplicate keys, broken aliases */
  readonly diagnostics: readonly Diagnostic[]
  readonly #document: Document
  readonly #lines: string[]
  readonly #counter = new LineCounter()

  /**
   * Reads a file that must be there. One that cannot be read is a mistake like any other. Reads at once: these files are
   * small and many, and a way through the thread pool takes several times as long as reading one.
   */
  static read(file: string, version: '1.1' | '1.2' = '1.2'): YamlFile {
    try {
      const bytes = readFileSync(file)
      return new YamlFile(file, new TextDecoder('utf-8', { fatal: true }).decode(bytes), version)
    } catch (error) {
      const why = error instanceof TypeError ? 'it is not UTF-8 text' : (error as Error).message
      return new YamlFile(file, '', version, `the file cannot be read: ${why}`)
    }
  }

  constructor(file: string, text: string, version: '1.1' | '1.2' = '1.2', unreadable?: string) {
    this.file = file
    // Frames end up in logs; a secret that was typed here by mistake must not.
    this.#lines = maskSecrets(text).split(/\r?\n/)
    this.#document = parseDocument(text, {
      version,
      lineCounter: this.#counter,
      prettyErrors: false,
      keepSourceTokens: false,
      stringKeys: true,
      logLevel: 'error',
      customTags: version === '1.1' ? asPyYaml : null,
    })
    const diagnostics = this.#document.errors.map((error) => this.#syntaxError(error))
    const readable = this.#document.errors.every((error) => error.code === 'DUPLICATE_KEY')
    if (readable && this.#document.contents === null) {
      diagnostics.push(
        this.diagnostic({ line: 1, column: 1, endLine: 1, endColumn: 2 }, unreadable ?? 'the file is empty'),
      )
    } else if (readable) {
      try {
        this.value = this.#document.toJS({ maxAliasCount: 100 })
      } catch (error) {
        diagnostics.push(
          this.diagnostic(this.at([]), `aliases cannot be resolved: ${(error as Error).message}`),
        )
      }
    }
    this.diagnostics = diagnostics
  }

  /** The place of the value at `path`; for an empty value, of its key; for something missing, of what should hold it. */
  at(path: Path): Span {
    const { pair, node } = this.#walk(path)
    if (isCollection(node)) return this.#firstOf(node) ?? this.#spanOf(node) ?? this.keyAt(path)
    const empty = node === undefined || (isScalar(node) && node.source === '' && node.value === null)
    const span = empty ? undefined : this.#spanOf(node)
    return span ?? (pair ? this.#spanOf(pair.key) : undefined) ?? this.at(path.slice(0, -1))
  }

  /** The place of the key at the end of `path`; of the item, where that is in a list. */
  keyAt(path: Path): Span {
    if (path.length === 0) return this.at([])
    const { pair } = this.#walk(path)
    return (pair && this.#spanOf(pair.key)) ?? this.at(path)
  }

  /** Where to complain that something at `path` lacks a key: at its own key, or at its beginning. */
  holderAt(path: Path): Span {
    return typeof path.at(-1) === 'string' ? this.keyAt(path) : this.at(path)
  }

  /** cloud-init tells formats by it */
  get firstLine(): string {
    return this.#lines[0] ?? ''
  }

  has(path: Path): boolean {
    return this.#walk(path).node !== undefined
  }

  /** A scalar as it was typed (without quotes): `1.10` stays `1.10`. Undefined for anything else. */
  source(path: Path): string | undefined {
    const { node } = this.#walk(path)
    return isScalar(node) ? (node.source ?? String(node.value)) : undefined
  }

  /** From here on no frame shows the text that is there. */
  hide(path: Path): void {
    const { line, column, endLine, endColumn } = this.at(path)
    for (let at = line; at <= endLine; at++) {
      const text = this.#lines[at - 1] ?? ''
      const [from, to] = [at === line ? column - 1 : 0, at === endLine ? endColumn - 1 : text.length]
      this.#lines[at - 1] = text.slice(0, from) + text.slice(from, to).replace(/\S/g, '•') + text.slice(to)
    }
  }

  diagnostic(
    span: Span,
    message: string,
    hint?: string,
    severity: Diagnostic['severity'] = 'error',
  ): Diagnostic {
    return {
      severity,
      file: this.file,
      ...span,
      message,
      ...(hint !== undefined && { hint }),
      frame: codeFrame(this.#lines, span),
    }
  }

  #walk(path: Path): { pair?: Pair | undefined; node?: Node | undefined } {
    let node = this.#resolve(this.#document.contents)
    let pair: Pair | undefined
    for (const segment of path) {
      if (isMap(node)) {
        // The last of duplicates is the one that counts.
        pair = node.items.findLast((item) => keyText(item) === String(segment))
        node = this.#resolve(pair?.value)
      } else if (isSeq(node)) {
        pair = undefined
        node = this.#resolve(node.items[Number(segment)])
      } else {
        return {}
      }
    }
    return { pair, node }
  }

  #resolve(node: unknown): Node | undefined {
    if (isAlias(node)) return node.resolve(this.#document)
    return isPair(node) ? undefined : ((node as Node | null) ?? undefined)
  }

  /** The first key of a map or item of a list: a collection as a whole is too much to underline. */
  #firstOf(node: Node): Span | undefined {
    if (isMap(node)) return node.items[0] && this.#spanOf(node.items[0].key)
    const first = isSeq(node) ? node.items[0] : undefined
    return isMap(first) ? this.#firstOf(first) : this.#spanOf(first)
  }

  #spanOf(node: unknown): Span | undefined {
    const range = (node as Node | undefined)?.range
    return range ? this.#span(range[0], range[1]) : undefined
  }

  #span(start: number, end: number): Span {
    const from = this.#counter.linePos(start)
    const to = this.#counter.linePos(Math.max(start, end))
    // An empty file has no lines to count.
    const line = Math.max(1, from.line)
    return {
      line,
      column: Math.max(1, from.col),
      endLine: Math.max(line, to.line),
      endColumn: Math.max(1, to.col),
    }
  }

  #syntaxError(error: YAMLError): Diagnostic {
    const [start, end] = error.pos
    const span = this.#span(start, end)
    if (error.code === 'DUPLICATE_KEY') {
      return this.diagnostic(this.#wordAt(span), 'this key is here twice', 'leave one of them')
    }
    return this.diagnostic(span, `this is not YAML: ${plainWords(error)}`, SYNTAX_HINTS[error.code])
  }

  /** The word that begins at a span of no length. */
  #wordAt(span: Span): Span {
    const word = /^[^\s:]+/.exec((this.#lines[span.line - 1] ?? '').slice(span.column - 1))?.[0] ?? ' '
    return { ...span, endLine: span.line, endColumn: span.column + word.length }
  }
}

/** YAML 1.1 as PyYAML, and so cloud-init, reads it: `y` and `1e3` are text there. */
export function asPyYaml(tags: Tags): Tags {
  return tags.map((tag) => {
    if (typeof tag !== 'object' || !('test' in tag)) return tag
    if (tag.test?.test('y')) return { ...tag, test: /^([Yy]es|YES|[Tt]rue|TRUE|[Oo]n|ON)$/ }
    if (tag.test?.test('n') && tag.tag.endsWith(':bool'))
      return { ...tag, test: /^([Nn]o|NO|[Ff]alse|FALSE|[Oo]ff|OFF)$/ }
    return tag.test?.test('1e3') ? { ...tag, test: /^[-+]?[0-9][0-9_]*\.[0-9_]*[eE][-+][0-9]+$/ } : tag
  })
}

const SYNTAX_HINTS: Partial<Record<YAMLError['code'], string>> = {
  TAB_AS_INDENT: 'YAML is indented with spaces',
  MULTIPLE_DOCS: 'take out the line ---',
  BLOCK_AS_IMPLICIT_KEY:
    'is the next line indented as this one? A value with a colon and a space in it needs quotes, a nested key its own line',
  BAD_INDENT: 'is a { or [ not closed, or a line indented in another way than its neighbours?',
  BAD_SCALAR_START: 'put the value in quotes',
  NON_STRING_KEY: 'put the key in quotes',
}

function plainWords(error: YAMLError): string {
  if (error.code === 'TAB_AS_INDENT') return 'a tab cannot indent'
  if (error.code === 'NON_STRING_KEY') return 'a key must be text'
  if (error.code === 'MULTIPLE_DOCS') return 'there is more than one document in the file'
  return error.message.charAt(0).toLowerCase() + error.message.slice(1).replace(/[.:]$/, '')
}

function keyText(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : String(pair.key)
}
