import { X509Certificate } from 'node:crypto'
import type { ClientRequest } from 'node:http'
import { Agent } from 'node:https'
import type { Duplex } from 'node:stream'
import { type ConnectionOptions, connect, getCACertificates, type TLSSocket } from 'node:tls'
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

/** At once; further requests wait. */
const CONNECTIONS = 8

/** Proxmox closes an idle connection after 5 s; we let go before, so that no write meets a closing one. */
const KEEP_ALIVE_SECONDS = 3

type Handover = (error: Error | null, socket: Duplex) => void

/**
 * Connections to one Proxmox: HTTP/1.1, kept alive, and not a byte of a request (so no credentials) before
 * the server has proven who it is. Sessions are not resumed: each connection shows its certificate.
 */
export class ProvenAgent extends Agent {
  readonly #connecting = new Set<TLSSocket>()
  readonly #trust: ConnectionOptions
  /** the certificate to be shown, as node writes it */
  readonly #pinned: string | undefined

  /** @throws ImagebuildError `definition_invalid` for a fingerprint or CA that is none */
  constructor(trust: TlsTrust) {
    super({ keepAlive: true, maxSockets: CONNECTIONS, timeout: KEEP_ALIVE_SECONDS * 1000 })
    this.#pinned = 'fingerprint' in trust ? normalFingerprint(trust.fingerprint) : undefined
    this.#trust = { ...verification(trust), ALPNProtocols: ['http/1.1'] }
  }

  /** A request gets its socket, and so begins to be written, by `handOver`. */
  override createConnection(options: object, handOver?: Handover): undefined {
    const socket = connect({ ...options, ...this.#trust })
    const late = setTimeout(
      () => socket.destroy(new Error(`no connection came about within ${CONNECT_SECONDS} s`)),
      CONNECT_SECONDS * 1000,
    )
    const settle = (error: ConnectFailure | null) => {
      clearTimeout(late)
      this.#connecting.delete(socket)
      socket.off('error', onError).off('close', onClose)
      handOver?.(error, socket)
    }
    const onError = (error: Error) => settle(failure(error))
    const onClose = () => settle(failure(new Error('the connection was closed')))
    this.#connecting.add(socket)
    socket.on('error', onError).on('close', onClose)
    socket.once('secureConnect', () => {
      const wrong = this.#mismatch(socket)
      settle(wrong)
      if (wrong) socket.destroy()
    })
  }

  #mismatch(socket: TLSSocket): ConnectFailure | null {
    if (this.#pinned === undefined) return null
    const shown = socket.getPeerX509Certificate()?.fingerprint256
    if (shown === this.#pinned) return null
    return new ConnectFailure(
      `its certificate is not the pinned one\nexpected ${this.#pinned}\nshown    ${shown ?? 'no certificate'}`,
      false,
      'if the certificate was renewed, read the new fingerprint on the node itself (pvenode cert info) and put it into the configuration; if not, somebody is in between',
    )
  }

  /** An idle connection that the server closes is at once none any more. */
  override keepSocketAlive(socket: Duplex): void {
    socket.once('end', leave)
    // biome-ignore lint/correctness/noVoidTypeReturn: whether it can be kept, which its type does not say
    return super.keepSocketAlive(socket)
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    socket.off('end', leave)
    super.reuseSocket(socket, request)
  }

  /** Ends every connection, also those that are just coming about. */
  override destroy(): void {
    for (const socket of this.#connecting) socket.destroy()
    super.destroy()
  }
}

function leave(this: Duplex): void {
  this.destroy()
}

/** What OpenSSL is to check. */
function verification(trust: TlsTrust): ConnectionOptions {
  // The chain says nothing about a self-signed certificate, so its verdict is not asked for, and no authority loaded.
  if ('fingerprint' in trust) return { rejectUnauthorized: false, ca: [] }
  if ('ca' in trust) return { rejectUnauthorized: true, ca: authority(trust.ca) }
  return { rejectUnauthorized: true, ca: [...getCACertificates('default'), ...getCACertificates('system')] }
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
