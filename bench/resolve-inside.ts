import { resolve } from '../src/cli/commands/resolve.ts'
import { SecretRegistry } from '../src/core/secrets.ts'

/** `node resolve-inside.ts <image>`: what `imagebuild resolve` does once its modules are there; says how many milliseconds. */
const { signal } = new AbortController()
const started = performance.now()
await resolve(
  { version: 'bench', secrets: new SecretRegistry(), signal, debug: false },
  process.argv[2] ?? '',
  {},
)
process.stderr.write(String(performance.now() - started))
