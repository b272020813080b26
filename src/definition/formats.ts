import { z } from 'zod'

/** The small words of the language: each a text of a certain form, with a message that shows the form. */

export const name = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/,
    'must be 1 to 40 lower-case letters, digits and dashes, as in a host name',
  )

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const
const inSeconds = (text: string) => Number.parseInt(text, 10) * SECONDS[text.at(-1) as keyof typeof SECONDS]

/** Seconds. In YAML: `90s`, `10m`, `1h`. */
export const duration = z
  .string()
  .regex(/^[1-9]\d{0,5}(s|m|h)$/, 'must be a number with a unit: 90s, 10m or 1h')
  .transform(inSeconds)

/** Seconds. In YAML: `12h`, `30d`. */
export const age = z
  .string()
  .regex(/^[1-9]\d{0,5}(s|m|h|d)$/, 'must be a number with a unit: 90m, 12h or 30d')
  .transform(inSeconds)

/** Bytes. In YAML as Proxmox writes sizes: `8G`, `512M`. */
export const size = z
  .string()
  .regex(/^[1-9]\d{0,5}[MGT]$/, 'must be a size with a unit: 512M, 8G or 1T')
  .transform(
    (text) =>
      Number.parseInt(text, 10) * { M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }[text.at(-1) as 'M' | 'G' | 'T'],
  )

/** Whatever stands in the place of a reference may be the secret itself: no message repeats it. */
export const NO_REFERENCE =
  'must be a reference to a secret: env:NAME, file:/path or cmd:command, never the secret itself'
export const secretReference = z.string().regex(/^(env|file|cmd):[\s\S]+$/, NO_REFERENCE)

export const checksum = z
  .string()
  .regex(
    /^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/,
    'must be sha256:<64 hex digits> or sha512:<128 hex digits>, in lower case',
  )

const OCTET = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const ADDRESS = `${OCTET}(\\.${OCTET}){3}`
export const ipv4 = z.string().regex(new RegExp(`^${ADDRESS}$`), 'must be an IPv4 address')
export const ipv4Range = z
  .string()
  .regex(
    new RegExp(`^${ADDRESS}-${ADDRESS}$`),
    'must be two IPv4 addresses with a dash: 192.0.2.100-192.0.2.149',
  )

export const httpsEndpoint = z
  .string()
  .regex(
    /^https:\/\/[^\s/@?#]+\/?$/,
    'must be an https URL without a path or password: https://pve.example:8006',
  )

export const httpUrl = z
  .string()
  .regex(/^https?:\/\/[^\s@]+$/, 'must be an http or https URL without a password')

/** Of a server, or a folder on it. */
export const serverUrl = z
  .string()
  .regex(/^https?:\/\/[^\s@?#]+$/, 'must be an http or https URL without a password, `?` and `#`')

/** As the host stands in a URL. */
export const urlHost = z
  .string()
  .regex(
    /^([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[1-9]\d{0,4})?$/,
    'must be a host as in a URL, in lower case, with a port where it is not the usual one: deb.example, 192.0.2.1:3142',
  )

export const nodeName = z
  .string()
  .regex(/^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/, 'must be the name of a node')

export const vmid = z.int().min(100).max(999_999_999)

/** VMIDs are 100 to 999999999. */
export const vmidRange = z
  .string()
  .regex(/^[1-9]\d{2,8}-[1-9]\d{2,8}$/, 'must be two VMIDs with a dash: 9000-9099')

/** None ends with a hyphen, by which apt-get is told to remove a package. */
export const packageName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](=[A-Za-z0-9.+:~-]+)?$/,
    'must be a Debian package name, with =version if need be',
  )

export const fragmentName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'must be the name of a file in cloud-init/, without .yaml')

export const environmentName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable')

export const guestPath = z
  .string()
  .regex(/^\/[^\0]*[^/\0]$/, 'must be an absolute path of a file in the guest')

export const relativePath = z.string().regex(/^[^/\0][^\0]*$/, 'must be a path relative to this file')

export const user = z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/, 'must be the name of a user')
