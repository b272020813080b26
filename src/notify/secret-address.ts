import type { SecretRegistry } from '../core/secrets.ts'
import { NotSent } from './not-sent.ts'

/** An address that is a password in itself, and what may be said of it. */
export interface SecretAddress {
  url: URL
  /** scheme and host; that there is more, is said by dots */
  shown: string
}

/**
 * An address from behind a reference.
 * @throws NotSent where it is none; the text is not repeated
 */
export function readAddress(text: string, reference: string, what: string): SecretAddress {
  const url = URL.parse(text.trim())
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    const next = 'write the whole address there, as its server shows it: https://…'
    throw new NotSent({ what, why: `what ${reference} gives is no http or https URL`, next })
  }
  return { url, shown: `${url.origin}/…` }
}

/** All that must not be repeated from an answer or an error: the address, its path and parts of it that may be a key. */
export function hideAddress(url: URL, hidden: SecretRegistry): void {
  const segments = url.pathname.split('/')
  const rest = url.pathname + url.search
  for (const part of [
    url.href,
    rest.length > 1 ? rest : '',
    url.username,
    url.password,
    ...segments,
    ...url.searchParams.values(),
  ]) {
    hidden.add(part)
    hidden.add(decoded(part))
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
