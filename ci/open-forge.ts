import type { SecretRegistry } from '../src/core/secrets.ts'
import type { Forge, ForgeContext, ForgeSettings } from './forge.ts'

/**
 * The forge of these settings. Its library is loaded only here, so that no other command waits for it.
 * @throws ImagebuildError `definition_invalid` where the token's reference leads to nothing
 */
export async function openForge(
  settings: ForgeSettings,
  secrets: SecretRegistry,
  context: ForgeContext,
): Promise<Forge> {
  return settings.kind === 'github'
    ? (await import('./github.ts')).openGithub(settings, secrets, context)
    : (await import('./forgejo.ts')).openForgejo(settings, secrets, context)
}
