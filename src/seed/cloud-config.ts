import { dump } from 'js-yaml'
import { ImagebuildError } from '../core/errors.ts'

/**
 * Builds a cloud-config document out of named parts. The rules:
 *
 * - maps are merged, key by key;
 * - lists are appended, in the order of the parts;
 * - a single value that two parts set differently is an error that names both;
 * - `override` replaces single values and whole lists, `orElse` fills in what nobody has set.
 */

export type CloudConfigValue = string | number | boolean | null | CloudConfigValue[] | CloudConfig

export interface CloudConfig {
  [key: string]: CloudConfigValue
}

/** An entry of `users`. */
export interface CloudUser {
  name: string
  /** public key lines */
  authorizedKeys: readonly string[]
  /** may become root without a password */
  sudo?: boolean
  /** default /bin/bash */
  shell?: string
  groups?: readonly string[]
}

/** An entry of `write_files`. */
export interface CloudFile {
  path: string
  content: string
  /** permission bits, default cloud-init's own 0o644 */
  mode?: number
  /** `user:group` */
  owner?: string
  /** write it in the final stage, after packages and users are there */
  defer?: boolean
}

export interface CloudHostKey {
  /** OpenSSH private key */
  privateKey: string
  /** public key line */
  publicKey: string
  /** certificate line of the public key; cloud-init makes sshd show it (HostCertificate) */
  certificate?: string
}

export function cloudConfig(): CloudConfigBuilder {
  return new CloudConfigBuilder()
}

export class CloudConfigBuilder {
  readonly #config: CloudConfig = {}
  /** path of each single value → the part that set it */
  readonly #origins = new Map<string, string>()

  /** @throws ImagebuildError `definition_invalid` when `part` contradicts an earlier part */
  merge(part: CloudConfig, name: string): this {
    this.#into(this.#config, part, name, '', 'refuse')
    return this
  }

  /** Like `merge`, but `part` wins: its single values and lists take the place of earlier ones. */
  override(part: CloudConfig, name: string): this {
    this.#into(this.#config, part, name, '', 'replace')
    return this
  }

  /** Like `merge`, but earlier parts win: only what is not there yet is taken from `part`. */
  orElse(part: CloudConfig, name: string): this {
    this.#into(this.#config, part, name, '', 'keep')
    return this
  }

  /** A user with a locked password, who logs in by key. Without the entry `default`, an image's own user is not made. */
  user(user: CloudUser, name = 'users'): this {
    const entry: CloudConfig = {
      name: user.name,
      lock_passwd: true,
      shell: user.shell ?? '/bin/bash',
      ssh_authorized_keys: [...user.authorizedKeys],
    }
    if (user.sudo) entry.sudo = 'ALL=(ALL) NOPASSWD:ALL'
    if (user.groups) entry.groups = [...user.groups]
    return this.merge({ users: [entry] }, name)
  }

  /**
   * The guest's host key; its type is read from the public key. With `ssh_keys` present cloud-init generates
   * none of its own (cc_ssh, 22.4 to 25), so that `ssh_genkeytypes` is not needed; an empty one breaks its schema.
   */
  sshHostKey(key: CloudHostKey, name = 'ssh_keys'): this {
    const type = /^(?:ssh-|ecdsa-)?(ed25519|rsa|ecdsa|sha2-nistp\d+) /.exec(key.publicKey)?.[1]
    if (!type) throw new TypeError('the public host key has no type that cloud-init knows')
    const known = type.startsWith('sha2') ? 'ecdsa' : type
    const keys: CloudConfig = { [`${known}_private`]: key.privateKey, [`${known}_public`]: key.publicKey }
    if (key.certificate !== undefined) keys[`${known}_certificate`] = key.certificate
    return this.merge({ ssh_keys: keys }, name)
  }

  writeFile(file: CloudFile, name = 'write_files'): this {
    const entry: CloudConfig = { path: file.path, content: file.content }
    if (file.mode !== undefined) entry.permissions = `0${file.mode.toString(8)}`
    if (file.owner !== undefined) entry.owner = file.owner
    if (file.defer !== undefined) entry.defer = file.defer
    return this.merge({ write_files: [entry] }, name)
  }

  packages(...packages: string[]): this {
    return this.merge({ packages }, 'packages')
  }

  /** Each an argument vector, run once in the final stage. */
  runCommand(...commands: readonly (readonly string[])[]): this {
    return this.merge({ runcmd: commands.map((command) => [...command]) }, 'runcmd')
  }

  build(): CloudConfig {
    return structuredClone(this.#config)
  }

  /** The document as cloud-init wants it, with its first line. */
  render(): string {
    return `#cloud-config\n${toYaml(this.#config)}`
  }

  #into(target: CloudConfig, part: CloudConfig, name: string, at: string, clash: Clash): void {
    for (const [key, value] of Object.entries(part)) {
      const path = at === '' ? key : `${at}.${key}`
      if (key === '__proto__') throw unfit(path, name, 'that key is not possible')
      const there = Object.hasOwn(target, key) ? target[key] : undefined
      if (there === undefined) {
        target[key] = copy(value, path, name)
        this.#origins.set(path, name)
      } else if (isMap(there) && isMap(value)) {
        this.#into(there, value, name, path, clash)
      } else if (clash === 'replace') {
        target[key] = copy(value, path, name)
        this.#origins.set(path, name)
      } else if (clash === 'keep') {
      } else if (Array.isArray(there) && Array.isArray(value)) {
        there.push(...(copy(value, path, name) as CloudConfigValue[]))
      } else if (there !== value) {
        throw this.#contradiction(path, name)
      }
    }
  }

  /** Values stay out of it: they may be keys or passwords. */
  #contradiction(path: string, name: string): ImagebuildError {
    // Inside of what one part set as a whole, the origin is known for the whole.
    let known = path
    while (!this.#origins.has(known) && known.includes('.')) known = known.slice(0, known.lastIndexOf('.'))
    return new ImagebuildError({
      code: 'definition_invalid',
      what: `the cloud-config parts "${this.#origins.get(known)}" and "${name}" contradict each other`,
      why: `both set ${path}, to different values or kinds of values`,
      next: `set ${path} in one of them`,
    })
  }
}

type Clash = 'refuse' | 'replace' | 'keep'

function isMap(value: CloudConfigValue | undefined): value is CloudConfig {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A deep copy of what YAML can carry to cloud-init; all else is a mistake that would show only in the guest. */
function copy(value: CloudConfigValue, path: string, name: string): CloudConfigValue {
  if (Array.isArray(value)) return value.map((item, index) => copy(item, `${path}[${index}]`, name))
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value
    case 'number':
      if (!Number.isFinite(value)) throw unfit(path, name, `${value} is no number that JSON knows`)
      return value
    case 'object': {
      if (value === null) return null
      const prototype = Object.getPrototypeOf(value)
      if (prototype !== Object.prototype && prototype !== null) break
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, copy(item, `${path}.${key}`, name)]),
      )
    }
  }
  throw unfit(path, name, 'only maps, lists, strings, numbers, true, false and null can be written')
}

function unfit(path: string, name: string, why: string): ImagebuildError {
  return new ImagebuildError({
    code: 'definition_invalid',
    what: `${path} of the cloud-config part "${name}" cannot be written as YAML`,
    why,
  })
}

/**
 * YAML that PyYAML, which cloud-init reads with, understands as it was meant. PyYAML speaks YAML 1.1, where
 * `52:54:00:12:34:56`, `no`, `1_000` or a date are no strings unless quoted. No line is folded, no value is
 * written as a reference to another.
 */
export function toYaml(document: CloudConfig): string {
  return dump(document, { lineWidth: -1, noRefs: true })
}
