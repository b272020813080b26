import { readFile } from 'node:fs/promises'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { configFile } from '../../src/definition/config-schema.ts'
import { imageFile } from '../../src/definition/image-schema.ts'
import { generateSchemas, SCHEMA_FILES } from '../../src/definition/json-schema.ts'

const schemas = generateSchemas()
const ajv = new Ajv({ strict: true, allowUnionTypes: true, strictRequired: false })
const acceptsImage = ajv.compile(JSON.parse(schemas['image.schema.json']))
const acceptsConfig = ajv.compile(JSON.parse(schemas['imagebuild.schema.json']))

const read = (file: string) => readFile(new URL(`../../${file}`, import.meta.url), 'utf8')

describe('schemas/', () => {
  test.each(SCHEMA_FILES)('%s is what the code generates (imagebuild schema writes it)', async (file) => {
    expect(await read(`schemas/${file}`)).toBe(schemas[file])
  })
  test.each([
    ['images/debian-base/image.yaml', '../../schemas/image.schema.json', acceptsImage],
    ['imagebuild.yaml', 'schemas/imagebuild.schema.json', acceptsConfig],
  ] as const)('%s names its schema and satisfies it', async (file, schema, accepts) => {
    const text = await read(file)
    expect(text.split('\n')[0]).toBe(`# yaml-language-server: $schema=${schema}`)
    expect(accepts(parse(text)), JSON.stringify(accepts.errors)).toBe(true)
  })
  test('the Proxmox example in imagebuild.yaml is right once its comment signs are gone', async () => {
    const text = (await read('imagebuild.yaml')).split('\n')
    const start = text.indexOf('  # home:')
    const example = text
      .slice(start)
      .map((line) => line.replace(/^ {2}# ?/, '  '))
      .join('\n')
    const config = { namespace: 'homelab', targets: parse(example) }
    expect(acceptsConfig(config), JSON.stringify(acceptsConfig.errors)).toBe(true)
    expect(configFile.safeParse(config).error).toBeUndefined()
    // Each field is shown there; these stand for the other ways to log in, to trust, and to build.
    const known = JSON.parse(schemas['imagebuild.schema.json']).properties.targets.additionalProperties
    const pve = (known.oneOf ?? known.anyOf).find((one: { properties: object }) => 'node' in one.properties)
    const shown = Object.keys((config.targets as { home: object }).home)
    const absent = Object.keys(pve.properties).filter((key) => !shown.includes(key))
    expect(absent.toSorted()).toEqual(['ca', 'nodes', 'password', 'username'])
  })
  test('so is the one of scheduled runs, which shows each way to be told', async () => {
    const text = (await read('imagebuild.yaml')).split('\n')
    const example = text
      .slice(text.indexOf('# ci:'), text.indexOf('targets:'))
      .map((line) => line.replace(/^# ?/, ''))
      .join('\n')
    const { ci } = parse(example)
    const config = { namespace: 'homelab', targets: { lab: { kind: 'lab' } }, ci }
    expect(acceptsConfig(config), JSON.stringify(acceptsConfig.errors)).toBe(true)
    expect(configFile.safeParse(config).error).toBeUndefined()
    const { properties } = JSON.parse(schemas['imagebuild.schema.json']).properties.ci
    for (const list of ['notify', 'ping'] as const) {
      const { oneOf, anyOf } = properties[list].items
      const known = (oneOf ?? anyOf).map(
        (one: { properties: { kind: { const: string } } }) => one.properties.kind.const,
      )
      expect(ci[list].map(({ kind }: { kind: string }) => kind).toSorted()).toEqual(known.toSorted())
    }
    expect(Object.keys(ci)).toEqual(Object.keys(properties))
  })
})

const SUM = `sha256:${'0'.repeat(64)}`
const image = (more: object) => ({ name: 'a', source: { release: 'debian/12' }, ...more })
const container = (more: object) => image({ kind: 'lxc', ...more })
const layer = (one: object) => image({ provision: [one] })
const pve = (more: object) => ({
  namespace: 'h',
  targets: { p: { kind: 'pve', node: 'n', storages: { disks: 'd', images: 'i' }, ...more } },
})
const ci = (more: object) => ({ namespace: 'h', targets: { l: { kind: 'lab' } }, ci: more })
const notify = (one: object) => ci({ notify: [one] })

describe('the loader’s schema and the JSON Schema agree', () => {
  test.each([
    image({}),
    image({ source: { url: 'https://x/y.raw', checksum: SUM, format: 'raw' } }),
    image({ source: { bootstrap: { distribution: 'debian', suite: 'sid' } } }),
    image({ hardware: { bios: 'ovmf', efidisk: {} }, build: { timeout: '1h' } }),
    image({ kind: 'vm' }),
    container({}),
    container({ hardware: { rootfs: '8G', swap: 0 }, unprivileged: false, template: { archive: true } }),
    container({ features: { nesting: true, keyctl: true, mount: ['nfs'] } }),
    container({ source: { appliance: 'debian-12-standard' } }),
    container({ source: { url: 'https://x/y', checksum: SUM, format: 'tar.xz' } }),
    layer({ packages: ['a1'] }),
    layer({ packages: { upgrade: true } }),
    layer({ file: { path: '/x', content: '' } }),
    layer({ shell: 'true', env: { A: 1, B: true, C: 'x' } }),
    layer({ shell: { inline: 'x', user: 'me' } }),
    layer({ reboot: true }),
    layer({ reboot: {} }),
    image({ hardening: 'baseline' }),
    image({ hardening: { profile: 'cis-l1', except: { x: 'because' } } }),
    image({ ssh: { ca: ['x.pub'], principals: { debian: ['admin'] } } }),
    image({ checks: [{ command: 'true', exit: 0 }, { port: 22 }] }),
    image({ template: { maxAge: '30d' }, updates: {} }),
    image({ updates: { repositories: [{ url: 'http://x', suite: 'y', key: 'z' }] } }),
  ])('accepted: %j', (value) => {
    expect(acceptsImage(value), JSON.stringify(acceptsImage.errors)).toBe(true)
    expect(imageFile.safeParse(value).error).toBeUndefined()
  })
  test.each([
    {},
    { name: 'a' },
    image({ name: 'A' }),
    image({ zzz: 1 }),
    image({ kind: 'lxx' }),
    image({ kind: null }),
    image({ unprivileged: true }),
    image({ features: {} }),
    image({ template: { archive: true } }),
    image({ hardware: { rootfs: '8G' } }),
    image({ source: { appliance: 'x' } }),
    image({ source: { url: 'https://x/y', checksum: SUM, format: 'tar.xz' } }),
    container({ hardware: { cpu: 'host' } }),
    container({ hardware: { rootfs: 8 } }),
    container({ features: { nesting: 1 } }),
    container({ source: { appliance: 'x', release: 'y' } }),
    container({ source: { appliance: 'local:vztmpl/x' } }),
    container({ source: { url: 'https://x/y', checksum: SUM, format: 'raw' } }),
    container({ zzz: 1 }),
    image({ source: {} }),
    image({ source: { release: 'x', image: 'y' } }),
    image({ source: { url: 'https://x/y.raw' } }),
    image({ source: { release: 'x', checksum: SUM } }),
    image({ source: { release: 'x', format: 'raw' } }),
    image({ source: { image: 'x', fallback: 'bootstrap' } }),
    image({ hardware: { efidisk: {} } }),
    image({ hardware: { cores: '2' } }),
    image({ hardware: { memory: 1.5 } }),
    image({ hardware: { disk: 8 } }),
    image({ template: { tags: ['ib-x'] } }),
    image({ build: { timeout: 900 } }),
    layer({}),
    layer({ packages: [] }),
    layer({ packages: ['a1'], shell: 'x' }),
    layer({ packages: ['a1'], env: { A: 'b' } }),
    layer({ file: { path: '/x' } }),
    layer({ file: { path: '/x', source: 'a', content: 'b' } }),
    layer({ file: { path: 'x', content: 'b' } }),
    layer({ shell: {} }),
    layer({ shell: { script: 'a', inline: 'b' } }),
    layer({ shell: { script: '/a' } }),
    layer({ shell: 'x', env: { '1': 'b' } }),
    layer({ reboot: false }),
    image({ hardening: 'cis' }),
    image({ hardening: { except: { x: '' } } }),
    image({ ssh: { principals: { debian: [] } } }),
    image({ checks: [{ command: 'true', port: 22 }] }),
    image({ checks: [{ port: 22, exit: 0 }] }),
    image({ template: { maxAge: 30 } }),
    image({ updates: { repositories: [{ url: 'http://x', suite: 'y' }] } }),
    image({ updates: { repositories: [{ url: 'http://a:b@x', suite: 'y', key: 'z' }] } }),
  ])('refused: %j', (value) => {
    expect(acceptsImage(value)).toBe(false)
    expect(imageFile.safeParse(value).success).toBe(false)
  })
  test.each([
    pve({}),
    pve({ username: 'a@pam', password: 'env:P', ca: 'x.pem' }),
    pve({ storages: { disks: 'd', images: 'i', archives: 'a' } }),
    pve({ node: undefined, nodes: ['a', 'b'] }),
    { namespace: 'h', targets: { l: { kind: 'lab' } } },
    { namespace: 'h', targets: { l: { kind: 'lab', nodes: ['a', 'b'] } } },
    ci({}),
    ci({ security: 'off', updates: false, pauseAfter: 1, pullRequest: {} }),
    pve({ mirrors: { debian: { main: 'http://x/debian' } }, privateHosts: ['[::1]:3142', 'deb.lan'] }),
    ci({ metrics: 'x.prom' }),
    ci({ ping: [{ kind: 'healthchecks', url: 'cmd:pass ping' }] }),
    notify({ kind: 'ntfy', topic: 'env:T' }),
    notify({ kind: 'ntfy', topic: 'env:T', username: 'a', password: 'env:P' }),
    notify({ kind: 'apprise', url: 'http://x:8000/apprise', urls: 'file:urls' }),
    notify({ kind: 'apprise', url: 'http://x:8000', key: 'env:K', tag: 'a, b' }),
    notify({ kind: 'mail', to: ['root'] }),
  ])('accepted: %j', (value) => {
    expect(acceptsConfig(value), JSON.stringify(acceptsConfig.errors)).toBe(true)
    expect(configFile.safeParse(value).error).toBeUndefined()
  })
  test.each([
    { namespace: 'h' },
    { namespace: 'h', targets: { L: { kind: 'lab' } } },
    { namespace: 'h', targets: { l: {} } },
    { namespace: 'h', targets: { l: { kind: 'lab', node: 'x' } } },
    { namespace: 'h', targets: { l: { kind: 'lab', nodes: [] } } },
    pve({ nodes: ['a'] }),
    pve({ node: undefined }),
    pve({ endpoint: 'http://x' }),
    pve({ token: 'literal' }),
    pve({ username: 'a@pam' }),
    pve({ token: 'env:T', username: 'a@pam', password: 'env:P' }),
    pve({ ca: 'x', fingerprint: Array(32).fill('00').join(':') }),
    pve({ vlan: 0 }),
    pve({ dns: ['1.2.3.256'] }),
    ci({ metrics: 'x.txt' }),
    ci({ security: 'negligible' }),
    ci({ pullRequest: { api: 'http://a:b@x' } }),
    ci({ pullRequest: { token: 'literal' } }),
    pve({ mirrors: { main: 'http://x' } }),
    pve({ mirrors: { debian: { main: 'http://a:b@x' } } }),
    pve({ privateHosts: ['http://x'] }),
    ci({ ping: [{ kind: 'healthchecks', url: 'https://hc-ping.com/literal' }] }),
    ci({ ping: [{ kind: 'cron', url: 'env:U' }] }),
    notify({ kind: 'ntfy', topic: 'literal' }),
    notify({ kind: 'ntfy', url: 'https://x/path', topic: 'env:T' }),
    notify({ kind: 'ntfy', topic: 'env:T', username: 'a' }),
    notify({ kind: 'ntfy', topic: 'env:T', token: 'env:T', username: 'a', password: 'env:P' }),
    notify({ kind: 'ntfy', topic: 'env:T', on: [] }),
    notify({ kind: 'ntfy', topic: 'env:T', on: ['always'] }),
    notify({ kind: 'apprise', url: 'http://a:b@x', key: 'env:K' }),
    notify({ kind: 'apprise', url: 'http://x', key: 'env:K', urls: 'env:U' }),
    notify({ kind: 'apprise', url: 'http://x', tag: 'a' }),
    notify({ kind: 'webhook', url: 'https://x' }),
    notify({ kind: 'webhook', url: 'env:U', headers: { A: 'literal' } }),
    notify({ kind: 'webhook', url: 'env:U', headers: { 'A b': 'env:B' } }),
    notify({ kind: 'mail', to: [] }),
    notify({ kind: 'mail', to: ['a@b\nBcc: c@d'] }),
    notify({ kind: 'mail', to: ['-oQ/tmp'] }),
    notify({ kind: 'mail', to: ['a@b'], sendmail: 'sendmail -v' }),
  ])('refused: %j', (value) => {
    expect(acceptsConfig(value)).toBe(false)
    expect(configFile.safeParse(value).success).toBe(false)
  })
})
