import { getCACertificates } from 'node:tls'
import { Agent, EnvHttpProxyAgent, fetch as undiciFetch } from 'undici'
import { ImagebuildError } from '../src/core/errors.ts'
import type { ForgeSettings } from './forge.ts'

/** A forge that has sent nothing for so long is not waited for. */
const SILENCE_SECONDS = 60

/**
 * `fetch` to one forge: by the proxy of the environment, and never without a verified certificate, whatever
 * NODE_TLS_REJECT_UNAUTHORIZED says. A token goes nowhere by plain http but to this machine, by no proxy.
 * @throws ImagebuildError `usage` for such an address
 */
export function forgeFetch({ api, ca }: Pick<ForgeSettings, 'api' | 'ca'>): typeof fetch {
  const { protocol, hostname } = new URL(api)
  if (protocol !== 'https:' && !(protocol === 'http:' && isLoopback(hostname))) {
    throw new ImagebuildError({
      code: 'usage',
      what: `${api} is not asked`,
      why: 'the token would go over the network unencrypted',
      next: 'give the address of the API with https://',
    })
  }
  const tls = { rejectUnauthorized: true, ...(ca !== undefined && { ca: trusted(ca) }) }
  const silence = { headersTimeout: SILENCE_SECONDS * 1000, bodyTimeout: SILENCE_SECONDS * 1000 }
  // A proxy would read what is not encrypted, and has another loopback.
  const dispatcher =
    protocol === 'http:'
      ? new Agent(silence)
      : new EnvHttpProxyAgent({ connect: tls, requestTls: tls, ...silence })
  // The types of undici's fetch and of Node's, which is made of it, differ in name only.
  const send = undiciFetch as unknown as (
    input: string | URL | Request,
    init: RequestInit & { dispatcher: Agent | EnvHttpProxyAgent },
  ) => Promise<Response>
  return (input, init) => send(input, { ...init, dispatcher })
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)
}

function trusted(ca: string): string[] {
  return [...getCACertificates(), ca]
}
