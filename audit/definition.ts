import { PROFILES, type Profile } from '../src/definition/hardening-schema.ts'

export { PROFILES, type Profile }

/** An image's definition with another hardening, and with nothing else changed. */
export function withHardening(text: string, profile: Profile): string {
  // The key with its value: on the same line, or on the indented ones below.
  const without = text.replace(/^hardening:.*\n(?:(?:[ \t].*)?\n)*/m, '')
  return `${without.trimEnd()}\n\nhardening: ${profile}\n`
}
