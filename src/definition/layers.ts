import { absoluteReference, isSecretReference, type SecretReference } from '../core/secrets.ts'
import type { Diagnostic, Span } from './diagnostics.ts'
import type { LayerFile } from './layer-schema.ts'
import { namesSecret } from './literal-secrets.ts'
import { readNamedFile } from './named-file.ts'
import { DEFAULT_LAYER_SECONDS, type Layer } from './spec.ts'
import type { Path, YamlFile } from './yaml-file.ts'

/** What a layer has whatever its kind. */
type Common = Pick<Layer, 'where'> & { timeout: number | undefined; name: string | undefined }

/** The layers of one definition, with the bytes of all files that they name. A wrong one is left out. */
export function loadLayers(
  written: readonly (LayerFile | undefined)[],
  yaml: YamlFile,
  folder: string,
  report: (found: Diagnostic) => void,
): Layer[] {
  const layers: Layer[] = []
  for (const [index, layer] of written.entries()) {
    const loaded = layer && loadLayer(layer, ['provision', index], { yaml, folder, report })
    if (loaded) layers.push(loaded)
  }
  return layers
}

interface Context {
  yaml: YamlFile
  folder: string
  report: (found: Diagnostic) => void
}

function loadLayer(layer: LayerFile, path: Path, context: Context): Layer | undefined {
  const { line, column } = context.yaml.at(path)
  const where = { file: context.yaml.file, line, column }
  const common = { where, timeout: layer.timeout, name: layer.name }
  if (layer.packages) return packagesLayer(layer.packages, common, path, context)
  if (layer.file) return fileLayer(layer.file, common, path, context)
  if (layer.shell) return shellLayer(layer.shell, layer.env ?? {}, common, path, context)
  return finished({ kind: 'reboot' }, common, 'reboot')
}

function packagesLayer(
  written: NonNullable<LayerFile['packages']>,
  common: Common,
  path: Path,
  { yaml, report }: Context,
): Layer | undefined {
  const long = Array.isArray(written) ? { install: written, remove: [], upgrade: false } : written
  const { install, remove, upgrade } = long
  const at = [...path, 'packages']
  if (install.length === 0 && remove.length === 0 && !upgrade) {
    report(yaml.diagnostic(yaml.holderAt(at), '`packages` does nothing: it needs install, remove or upgrade'))
    return undefined
  }
  const bare = install.map((name) => name.replace(/=.*/, ''))
  for (const [index, name] of remove.entries()) {
    if (!bare.includes(name)) continue
    report(
      yaml.diagnostic(
        yaml.at([...at, 'remove', index]),
        `\`${name}\` is installed and removed by the same layer`,
      ),
    )
  }
  const changes = [...(upgrade ? ['upgrade'] : []), ...install, ...remove.map((name) => `-${name}`)]
  return finished({ kind: 'packages', install, remove, upgrade }, common, `packages: ${shortList(changes)}`)
}

function fileLayer(
  written: NonNullable<LayerFile['file']>,
  common: Common,
  path: Path,
  context: Context,
): Layer | undefined {
  const { path: target, mode, owner } = written
  if (target.split('/').includes('..')) {
    const span = context.yaml.at([...path, 'file', 'path'])
    context.report(context.yaml.diagnostic(span, '`path` must not contain `..`'))
  }
  const named = `file: ${target}`
  if (written.source === undefined) {
    const content = new TextEncoder().encode(written.content ?? '')
    return finished({ kind: 'file', path: target, content, mode, owner }, common, named)
  }
  const source = readOrReport(written.source, [...path, 'file', 'source'], context)
  if (!source) return undefined
  return finished(
    { kind: 'file', path: target, content: source.bytes, mode, owner, source: source.path },
    common,
    named,
  )
}

function shellLayer(
  written: NonNullable<LayerFile['shell']>,
  env: NonNullable<LayerFile['env']>,
  common: Common,
  path: Path,
  context: Context,
): Layer | undefined {
  const environment = splitEnvironment(env, [...path, 'env'], context)
  const { script, inline, user } =
    typeof written === 'string' ? { inline: written, user: 'root', script: undefined } : written
  if (script === undefined) {
    const text = inline ?? ''
    return finished(
      {
        kind: 'shell',
        script: new TextEncoder().encode(text.endsWith('\n') ? text : `${text}\n`),
        user,
        ...environment,
      },
      common,
      `shell: ${firstCommand(text)}`,
    )
  }
  const at = [...path, 'shell', 'script']
  const source = readOrReport(script, at, context)
  if (!source) return undefined
  const trouble = scriptTrouble(source.bytes)
  if (trouble) {
    context.report(
      context.yaml.diagnostic(context.yaml.at(at), `\`${script}\` ${trouble.mistake}`, trouble.hint),
    )
  }
  return finished(
    { kind: 'shell', script: source.bytes, source: source.path, user, ...environment },
    common,
    `shell: ${script}`,
  )
}

/** What cannot run, whatever it says. */
function scriptTrouble(bytes: Uint8Array): { mistake: string; hint?: string } | undefined {
  const text = Buffer.from(bytes).toString('latin1')
  if (text.trim() === '') return { mistake: 'is empty' }
  if (/^[^\n]*\r\n/.test(text)) {
    return {
      mistake: 'has Windows line ends, which no shell can read',
      hint: "convert it: sed -i 's/\\r$//'",
    }
  }
  return undefined
}

/** Plain values as they were typed (`1.10` stays `1.10`), and references to secrets apart. */
function splitEnvironment(
  env: NonNullable<LayerFile['env']>,
  path: Path,
  { yaml, folder, report }: Context,
): { env: Record<string, string>; secrets: Record<string, SecretReference> } {
  const plain: Record<string, string> = {}
  const secrets: Record<string, SecretReference> = {}
  for (const [key, value] of Object.entries(env)) {
    const text = typeof value === 'string' ? value : (yaml.source([...path, key]) ?? String(value))
    if (isSecretReference(text)) {
      secrets[key] = absoluteReference(text, folder)
      continue
    }
    plain[key] = text
    if (text !== '' && namesSecret(key)) report(literalSecret(yaml, yaml.at([...path, key]), key))
  }
  return { env: plain, secrets }
}

function literalSecret(yaml: YamlFile, span: Span, key: string): Diagnostic {
  return yaml.diagnostic(
    span,
    `\`${key}\` looks like a secret, and stands here for all to read`,
    'write a reference: env:NAME, file:/path or cmd:command',
    'warning',
  )
}

function readOrReport(name: string, at: Path, { yaml, folder, report }: Context) {
  const read = readNamedFile(folder, name)
  if (!('mistake' in read)) return read
  report(yaml.diagnostic(yaml.at(at), read.mistake, read.hint))
  return undefined
}

type LayerBody = Layer extends infer One
  ? One extends Layer
    ? Omit<One, 'name' | 'where' | 'timeoutSeconds'>
    : never
  : never

function finished(body: LayerBody, common: Common, defaultName: string): Layer {
  return {
    name: common.name ?? defaultName,
    where: common.where,
    timeoutSeconds: common.timeout ?? DEFAULT_LAYER_SECONDS[body.kind],
    ...body,
  }
}

function shortList(names: readonly string[]): string {
  return names.length <= 4 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`
}

/** The first line that is a command, cut to fit a progress line. */
function firstCommand(text: string): string {
  const lines = text.split('\n').map((line) => line.trim())
  const first = lines.find((line) => line !== '' && !line.startsWith('#')) ?? lines[0] ?? ''
  return first.length > 50 ? `${first.slice(0, 49)}…` : first
}

/** Layers that are wrong are not among those that were loaded, so a layer's place tells which it is. */
export function pathOfLayer({ where }: Layer, yaml: YamlFile): Path {
  const written = (yaml.value as { provision: unknown[] }).provision
  const index = written.findIndex((_, n) => {
    const { line, column } = yaml.at(['provision', n])
    return line === where.line && column === where.column
  })
  return ['provision', index]
}
