import { z } from 'zod'
import type { ImageSpec } from '../../definition/spec.ts'
import { isPublicKeyLine } from '../../ssh/host-key.ts'

/** Whom definitions themselves let in: users, and the public keys that they are given. */

export interface KeyLogin {
  user: string
  /** `ssh-ed25519 AAAA…`, without a comment */
  publicKey: string
}

/** authorized_keys(5): a line of it, or of a script that writes one. Keys of tokens want to be touched: not asked for. */
const KEY = /\b(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+)\s+(AAAA[0-9A-Za-z+/]{20,}={0,3})/

/** Where sshd looks, sshd_config(5) AuthorizedKeysFile. */
const FILE = /(?:\/home\/([a-z_][a-z0-9_-]*)|\/(root))\/\.ssh\/authorized_keys2?\b/g

/** What cloud-init makes users of, as far as it matters here. */
const cloudUsers = z.object({
  users: z
    .array(
      z
        .object({
          name: z.string(),
          ssh_authorized_keys: z.union([z.string(), z.array(z.string())]).optional(),
        })
        .catch({ name: '' }),
    )
    .catch([]),
  write_files: z
    .array(z.object({ path: z.string(), content: z.string() }).catch({ path: '', content: '' }))
    .catch([]),
})

/** Of an image and its parents: root first, who needs no sudo; each pair once. */
export function keyLoginsOf(line: readonly ImageSpec[]): KeyLogin[] {
  const decoder = new TextDecoder()
  const logins = line.flatMap(({ cloudInit, layers }) => [
    ...cloudInit.flatMap(({ config }) => cloudLogins(config)),
    ...layers.flatMap((layer) => {
      if (layer.kind === 'file') return loginsIn(layer.path, decoder.decode(layer.content))
      if (layer.kind !== 'shell') return []
      const script = decoder.decode(layer.script)
      return loginsIn(script, [script, ...Object.values(layer.env)].join('\n'))
    }),
  ])
  const pairs = new Map(logins.map((login) => [`${login.user} ${login.publicKey}`, login]))
  return [...pairs.values()].sort((a, b) => Number(b.user === 'root') - Number(a.user === 'root'))
}

function cloudLogins(config: Record<string, unknown>): KeyLogin[] {
  const { users, write_files: files } = cloudUsers.parse(config)
  return [
    ...users.flatMap(({ name, ssh_authorized_keys: keys = [] }) =>
      name === '' ? [] : keysIn([keys].flat().join('\n')).map((publicKey) => ({ user: name, publicKey })),
    ),
    ...files.flatMap(({ path, content }) => loginsIn(path, content)),
  ]
}

/** @param paths names the files that the keys go into */
function loginsIn(paths: string, content: string): KeyLogin[] {
  const users = new Set([...paths.matchAll(FILE)].map(([, user, root]) => (user ?? root) as string))
  if (users.size === 0) return []
  const keys = keysIn(content)
  return [...users].flatMap((user) => keys.map((publicKey) => ({ user, publicKey })))
}

/** One that may run a single command is no way in, nor is what stands in a key's place (`ssh-ed25519 AAAA…EXAMPLE`). */
function keysIn(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const found = KEY.exec(line)
    if (found === null || /^\s*#|\bcommand=/.test(line.slice(0, found.index))) return []
    const publicKey = `${found[1]} ${found[2]}`
    return isPublicKeyLine(publicKey) ? [publicKey] : []
  })
}
