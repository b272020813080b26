/**
 * Secrets belong into references (env:, file:, cmd:). One that somebody typed into a file all the same must
 * not be carried into logs by the message that says so.
 */
const SECRET_KEY = /(token|passw(or)?d|passphrase|secret|private_?key|api_?key)$/i
const REFERENCE = /^(env|file|cmd):/

/** Whether a key of this name is expected to hold a secret. */
export function namesSecret(key: string): boolean {
  return SECRET_KEY.test(key)
}

/**
 * The text with literal values of secret-looking keys, and passwords within URLs, replaced by dots of the same
 * length: places stay what they were. Works on lines, so that it does so for text that is not YAML, too.
 */
export function maskSecrets(text: string): string {
  let block: number | undefined
  return text
    .split('\n')
    .map((line) => {
      const indent = line.search(/\S/)
      if (block !== undefined && (indent === -1 || indent > block)) {
        return line.replace(/\S+/g, dots)
      }
      block = undefined
      const [, before = '', key = '', value = ''] = ENTRY.exec(line) ?? []
      if (!namesSecret(key) || REFERENCE.test(value)) return line
      // The value may go on below: a block scalar, or a plain one that was folded.
      block = indent
      return before + dots(value)
    })
    .join('\n')
    .replace(
      /(:\/\/[^\s/:@]*:)([^\s/@]+)(?=@)/g,
      (_, before: string, hidden: string) => before + dots(hidden),
    )
}

/** `key: value`, also the last one within braces; `value` may be empty. */
const ENTRY = /^((?:.*[{,]|[\s-]*)\s*["']?([\w-]+)["']?\s*:\s*["']?)(.*)$/

function dots(text: string): string {
  return '•'.repeat(text.length)
}
