import { PROFILES, type Profile } from '../src/definition/hardening-schema.ts'
import type { Release } from './release.ts'

export { PROFILES, type Profile }

/** What is audited: one hardening of the shipped image, of one release. */
export interface Audit {
  release: Release
  profile: Profile
}

/** An image's definition of another release and with another hardening, and with nothing else changed. */
export function definitionFor(text: string, { release, profile }: Audit): string {
  // The key with its value: on the same line, or on the indented ones below.
  const without = text.replace(/^hardening:.*\n(?:(?:[ \t].*)?\n)*/m, '')
  const released = without.replace(/\bdebian\/\d+\b/g, `debian/${release}`)
  return `${released.trimEnd()}\n\nhardening: ${hardening(release, profile)}\n`
}

/** The strictest profile of Debian 13 is as ssh-audit's policy for it is: post-quantum, and nothing else. */
function hardening(release: Release, profile: Profile): string {
  return release === '13' && profile === 'cis-l1' ? '{ profile: cis-l1, postQuantum: true }' : profile
}
