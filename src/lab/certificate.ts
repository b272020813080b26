import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'

export interface Certificate {
  key: string
  cert: string
  /** SHA-256, as Proxmox prints it: upper-case hex with colons */
  fingerprint: string
}

/** Ten years: the lab's clients pin the certificate, nobody renews it. */
const DAYS = 3650

/** The lab's own certificate, made on first use and kept, so that a pinned fingerprint stays right. */
export async function certificate(dir: string, host: string): Promise<Certificate> {
  const [keyFile, certFile] = [join(dir, 'tls.key'), join(dir, 'tls.crt')]
  const read = () => Promise.all([readFile(keyFile, 'utf8'), readFile(certFile, 'utf8')])
  const [key, cert] = await read().catch(async () => {
    const names = new Set([
      'IP:127.0.0.1',
      'DNS:localhost',
      ...(/^[\d.]+$/.test(host) ? [`IP:${host}`] : [`DNS:${host}`]),
    ])
    await execa('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc'],
      ...['-days', String(DAYS), '-subj', '/O=imagebuild/CN=imagebuild lab'],
      ...['-addext', `subjectAltName=${[...names].join(',')}`, '-keyout', keyFile, '-out', certFile],
    ])
    return read()
  })
  return { key, cert, fingerprint: new X509Certificate(cert).fingerprint256 }
}
