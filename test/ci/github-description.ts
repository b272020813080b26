import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { execa } from 'execa'
import { extract } from 'tar-stream'

/** GitHub's description of its API, as GitHub publishes it on npm. Of the package's 400 MB one file is needed. */
const PACKAGE = { name: '@octokit/openapi', version: '23.0.2' }
/** `npm view <name>@<version> dist.integrity` */
const INTEGRITY =
  'sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg=='
const FILE = 'package/generated/api.github.com.json'

const ROOT = resolve(import.meta.dirname, '../..')
const KEPT = join(ROOT, 'node_modules/.cache/github-api', `${PACKAGE.version}.json`)

/**
 * The description as JSON: from the tests' cache, or once from npm's registry (29 MB).
 * @throws Error of npm, or one that says that the package is not the one that is known here
 */
export async function githubDescription(): Promise<string> {
  const kept = await readFile(KEPT, 'utf8').catch(() => undefined)
  return kept ?? (await fetchDescription())
}

async function fetchDescription(): Promise<string> {
  await mkdir(dirname(KEPT), { recursive: true })
  const folder = await mkdtemp(join(dirname(KEPT), 'new-'))
  try {
    const description = await fileIn(await packed(folder))
    await writeFile(join(folder, 'description.json'), description)
    await rename(join(folder, 'description.json'), KEPT)
    return description
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The package as npm packs it, from the registry that the user's npm has. */
async function packed(folder: string): Promise<Buffer> {
  const { name, version } = PACKAGE
  const args = ['pack', `${name}@${version}`, '--pack-destination', folder, '--json', '--loglevel=error']
  const { stdout } = await execa('npm', args, { cwd: ROOT })
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }]
  const tarball = await readFile(join(folder, filename))
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
  if (integrity !== INTEGRITY) throw new Error(`${name}@${version} has ${integrity}, not ${INTEGRITY}`)
  return tarball
}

async function fileIn(tarball: Buffer): Promise<string> {
  const entries = extract()
  const unpacked = pipeline(Readable.from([tarball]), createGunzip(), entries)
  let found: string | undefined
  for await (const entry of entries) {
    if (entry.header.name === FILE) found = await text(entry)
    else entry.resume()
  }
  await unpacked
  if (found === undefined) throw new Error(`${PACKAGE.name}@${PACKAGE.version} has no ${FILE}`)
  return found
}
