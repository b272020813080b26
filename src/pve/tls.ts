import { X509Certificate } from 'node:crypto'
import { getCACertificates, type TLSSocket } from 'node:tls'
import type { buildConnector } from 'undici'
import makeConnector from 'undici/lib/core/connect.js'
import Agent from 'undici/lib/dispatcher/agent.js'
import { ImagebuildError } from '../core/errors.ts'

/** Whom to believe: exactly this certificate, whatever this authority signed, or what this machine trusts. */
export type TlsTrust =
  /** SHA-256 of the server's certificate, as `pvenode cert info` and the web interface show it */
  | { fingerprint: string }
  /** PEM of an authority, such as a cluster's /etc/pve/pve-root-ca.pem */
  | { ca: string }
  | { system: true }

/** No connection came about: nothing of any request was sent. */
export class ConnectFailure extends Error {
  /** true where another try may succeed: never for a certificate that is wrong */
  readonly passing: boolean
  readonly next: string | undefined

  constructor(message: string, passing: boolean, next?: string, cause?: unknown) {
    super(message, { cause })
    this.passing = passing
    this.next = next
  }
}

/** Seconds for TCP and TLS together, per try. */
const CONNECT_SECONDS = 10

/** Proxmox closes an idle connection after 5 s; we let go before, so that no write meets a closing one. */
const KEEP_ALIVE_SECONDS = 3

/**
 * Connections to one Proxmox: HTTP/1.1, kept alive, and not a byte of a request (so no credentials) before
 * the server has proven who it is.
 * @throws ImagebuildError `definition_invalid` for a fingerprint or CA that is none
 */
export function createAgent(trust: TlsTrust): Agent {
  return new Agent({
    connect: 'fingerprint' in trust ? pinned(trust.fingerprint) : verified(trust),
    allowH2: false,
    connections: 8,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_SECONDS * 1000,
    keepAliveMaxTimeout: KEEP_ALIVE_SECONDS * 1000,
  })
}

const COMMON = { allowH2: false, timeout: CONNECT_SECONDS * 1000, maxCachedSessions: 0 } as const

function verified(trust: { ca: string } | { system: true }): buildConnector.connector {
  const connect = makeConnector({
    ...COMMON,
    ca:
      'ca' in trust ? authority(trust.ca) : [...getCACertificates('default'), ...getCACertificates('system')],
  })
  return (options, callback) =>
    connect(options, (error, socket) => {
      if (error) callback(failure(error), null)
      else callback(null, socket)
    })
}

/**
 * The chain says nothing about a self-signed certificate, so OpenSSL's verdict is not asked for; the pin is,
 * before the socket is handed on. Sessions are not resumed: each connection shows its certificate.
 */
function pinned(fingerprint: string): buildConnector.connector {
  const expected = normalFingerprint(fingerprint)
  const connect = makeConnector({ ...COMMON, rejectUnauthorized: false })
  return (options, callback) =>
    connect(options, (error, socket) => {
      if (error) return callback(failure(error), null)
      const shown = (socket as TLSSocket).getPeerX509Certificate()?.fingerprint256
      if (shown === expected) return callback(null, socket)
      socket.destroy()
      callback(
        new ConnectFailure(
          `its certificate is not the pinned one\nexpected ${expected}\nshown    ${shown ?? 'no certificate'}`,
          false,
          'if the certificate was renewed, read the new fingerprint on the node itself (pvenode cert info) and put it into the configuration; if not, somebody is in between',
        ),
        null,
      )
    })
}

function normalFingerprint(text: string): string {
  const hex = text.replaceAll(':', '').trim().toUpperCase()
  if (!/^[0-9A-F]{64}$/.test(hex)) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: 'the fingerprint of the target is no SHA-256 fingerprint',
      why: `it must be 64 hexadecimal digits, with or without colons, and has ${hex.length} characters`,
      next: 'read it on the node: pvenode cert info',
    })
  }
  return hex.match(/../g)?.join(':') as string
}

function authority(pem: string): string {
  try {
    new X509Certificate(pem)
    return pem
  } catch (cause) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: 'the CA of the target is no certificate in PEM form',
      why: (cause as Error).message,
      next: 'copy /etc/pve/pve-root-ca.pem from the cluster',
      cause,
    })
  }
}

function failure(error: Error): ConnectFailure {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  if (CERTIFICATE_FAULT.test(code)) {
    return new ConnectFailure(
      `its certificate is not trusted: ${error.message}`,
      false,
      'pin it by `fingerprint` (read it on the node: pvenode cert info), or give the `ca` that signed it, and use a name that the certificate is for',
      error,
    )
  }
  const why = error.message || (error as AggregateError).errors?.map((each: Error) => each.message).join(', ')
  return new ConnectFailure(
    why || code,
    !/^ERR_SSL/.test(code),
    'check the endpoint (https://host:8006), the network and any firewall in between',
    error,
  )
}

/** Node's codes for what X.509 verification and the comparison of names find. */
const CERTIFICATE_FAULT = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|INVALID_CA|INVALID_PURPOSE/
