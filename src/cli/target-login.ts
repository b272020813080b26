import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'
import type { Config } from '../definition/config.ts'
import type { PveTarget } from '../definition/config-schema.ts'
import type { Invocation } from './invocation.ts'

/** What a target says of its Proxmox: where it is, who we are there, and why it is trusted. */

export function endpointOf(target: PveTarget): string {
  const endpoint = target.endpoint ?? process.env.PROXMOX_VE_ENDPOINT
  if (endpoint === undefined) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: 'the target has no endpoint',
      next: 'add `endpoint: https://…:8006` to it in imagebuild.yaml, or set PROXMOX_VE_ENDPOINT',
    })
  }
  return endpoint
}

export async function credentials(invocation: Invocation, target: PveTarget) {
  const { secrets, signal } = invocation
  const reference = (text: string) => secrets.resolve(text as `env:${string}`, signal)
  if (target.username !== undefined && target.password !== undefined) {
    return { kind: 'ticket', username: target.username, password: await reference(target.password) } as const
  }
  return { kind: 'token', token: await reference(target.token ?? 'env:PROXMOX_VE_API_TOKEN') } as const
}

export async function trust(project: Config, target: PveTarget) {
  if (target.fingerprint !== undefined) return { fingerprint: target.fingerprint }
  if (target.ca === undefined) return { system: true } as const
  const path = resolve(dirname(project.configFile), target.ca)
  try {
    return { ca: await readFile(path, 'utf8') }
  } catch (cause) {
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: `the CA of the target cannot be read: ${path}`,
      why: (cause as Error).message,
      next: 'copy it from the node: /etc/pve/pve-root-ca.pem',
      cause,
    })
  }
}
