import { ImagebuildError } from '../core/errors.ts'
import { DeadlineError, orAbort, withDeadline } from '../core/scope.ts'
import { isSecretReference, type SecretRegistry } from '../core/secrets.ts'
import type { NotifyContext } from './context.ts'

/** Seconds. A password manager that is locked would wait for an answer that no scheduled run gives. */
const SECRET_SECONDS = 60

/**
 * The value behind a reference; `hidden` knows it from then on.
 * @throws ImagebuildError `definition_invalid` when the variable, file or command gives nothing, or not in time
 */
export async function reveal(
  reference: string,
  hidden: SecretRegistry,
  { secrets, signal, secretSeconds = SECRET_SECONDS }: NotifyContext,
): Promise<string> {
  if (!isSecretReference(reference)) throw new Error('the schema lets only references through here')
  using deadline = withDeadline(signal, secretSeconds, reference)
  try {
    const value = await orAbort(secrets.resolve(reference, deadline), deadline)
    hidden.add(value)
    return value
  } catch (error) {
    if (!(error instanceof DeadlineError)) throw error
    throw new ImagebuildError({
      code: 'definition_invalid',
      what: `the secret ${reference} cannot be read`,
      why: `it gave nothing within ${secretSeconds} s`,
      next: 'let it be read without a question: nobody answers a scheduled run',
    })
  }
}
