import { reachTarget } from '../src/cli/target.ts'
import { SecretRegistry } from '../src/core/secrets.ts'
import { readConfig } from '../src/definition/config.ts'
import { askTemplates } from '../src/pve/cluster.ts'
import { select, templatesIn } from '../src/pve/templates.ts'

/** `node resolve-inside.ts <image>`: the request of `imagebuild resolve`, as it does it; says how many milliseconds it takes. */
const { signal } = new AbortController()
const invocation = { version: 'bench', secrets: new SecretRegistry(), signal, debug: false }
const config = await readConfig('imagebuild.yaml')
const reached = await reachTarget(invocation, config, undefined)
if (reached === undefined) throw new Error('there is nothing to ask')
const started = performance.now()
const template = select(
  templatesIn(await askTemplates(reached.connection), config.namespace),
  process.argv[2] ?? '',
)
if (template === undefined) throw new Error('nothing was found')
process.stderr.write(String(performance.now() - started))
