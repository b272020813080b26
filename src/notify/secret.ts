import { isSecretReference, type SecretRegistry } from '../core/secrets.ts'
import type { NotifyContext } from './context.ts'

/**
 * The value behind a reference; `hidden` knows it from then on.
 * @throws ImagebuildError `definition_invalid` when the variable, file or command gives nothing
 */
export async function reveal(
  reference: string,
  hidden: SecretRegistry,
  { secrets, signal }: NotifyContext,
): Promise<string> {
  if (!isSecretReference(reference)) throw new Error('the schema lets only references through here')
  const value = await secrets.resolve(reference, signal)
  hidden.add(value)
  return value
}
