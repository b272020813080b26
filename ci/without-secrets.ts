import { ImagebuildError } from '../src/core/errors.ts'
import type { SecretRegistry } from '../src/core/secrets.ts'
import { BODY_LIMIT, type Change, type Status } from './forge.ts'
import { cutText } from './markdown.ts'

/**
 * What a forge shows to all who may read the repository. Texts are redacted before anything is made of them, since a secret that
 * was cut or wrapped is not found any more. Files are sent as they are, or not at all.
 * @throws ImagebuildError `definition_invalid` where a file has a secret in it
 */
export function changeWithoutSecrets(change: Change, secrets: SecretRegistry): Change {
  const { title, body, closingComment, files } = change
  for (const [path, text] of files)
    if (text !== undefined && [path, text].some((one) => secrets.redact(one) !== one))
      throw secretInside(secrets.redact(path))
  return {
    ...change,
    ...secrets.redactDeep({ title, closingComment }),
    // What stands for a short secret is longer than that.
    body: cutText(secrets.redact(body), BODY_LIMIT),
  }
}

/** Commit, address and files of a status are not changed: they lead to something. */
export function statusWithoutSecrets(status: Status, secrets: SecretRegistry): Status {
  const { name, title, summary } = status
  const annotations = status.annotations.map((one) => ({ ...one, text: secrets.redact(one.text) }))
  return { ...status, ...secrets.redactDeep({ name, title, summary }), annotations }
}

function secretInside(path: string): ImagebuildError {
  return new ImagebuildError({
    code: 'definition_invalid',
    what: `nothing was sent to the forge: ${path} has a secret in it`,
    why: 'everybody who may read the repository would see the secret, and its history would keep it',
    next: 'take the secret out of what the file tells of (names, addresses, package sources); where it is a common word, change it',
  })
}
