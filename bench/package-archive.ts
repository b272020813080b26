import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { SigningKey } from '../test/updates/signed-archive.ts'

const run = promisify(execFile)

/** As many packages as Debian 13 has for amd64 in main, and somewhat more than Ubuntu 22.04 in its security suite for main. */
export const SUITES = { trixie: 68_000, 'trixie-updates': 500, 'trixie-security': 4000 } as const

export const nameOf = (index: number) => `package-${String(index).padStart(5, '0')}`
export const VERSION = '1.2.3-4+deb13u5'

/**
 * Makes signed suites of generated packages in a folder.
 * @returns paths of their lists, as they are packed
 */
export async function makeArchive(folder: string, key: SigningKey): Promise<string[]> {
  const lists: string[] = []
  for (const [suite, count] of Object.entries(SUITES)) {
    const place = join(folder, 'debian/dists', suite)
    const binary = join(place, 'main/binary-amd64')
    await mkdir(join(binary, 'by-hash/SHA256'), { recursive: true })
    const plain = join(binary, 'Packages')
    await writeFile(plain, Array.from({ length: count }, (_, index) => stanza(index)).join('\n'))
    await run('xz', ['-2', '--threads=0', plain])
    const packed = `${plain}.xz`
    const sha256 = createHash('sha256')
      .update(await readFile(packed))
      .digest('hex')
    const { size } = await stat(packed)
    const list = join(binary, 'by-hash/SHA256', sha256)
    await rename(packed, list)
    lists.push(list)
    const release = `Suite: ${suite}\nCodename: ${suite}\nDate: ${new Date(Date.now() - 3_600_000).toUTCString()}\nAcquire-By-Hash: yes\nArchitectures: amd64\nSHA256:\n ${sha256} ${size} main/binary-amd64/Packages.xz\n`
    await writeFile(join(place, 'InRelease'), key.clearSign(release))
  }
  return lists
}

/** Of the size of Debian's, on average. */
function stanza(index: number): string {
  const noise = createHash('sha512').update(String(index)).digest('hex')
  const name = nameOf(index)
  return `Package: ${name}
Source: source-${index >> 1}
Version: ${VERSION}
Installed-Size: ${(index * 7919) % 100_000}
Maintainer: Maintainers of ${name} <${name}@packages.example.org>
Architecture: amd64
Depends: libc6 (>= 2.38), ${nameOf(index >> 1)} (>= 1.${index % 10}), ${nameOf(index >> 2)}, ${nameOf((index * 31) % 68_000)}
Suggests: ${nameOf((index * 17) % 68_000)}
Description: what package ${index} is good for
Homepage: https://www.example.org/${name}/
Description-md5: ${noise.slice(0, 32)}
Tag: implemented-in::c, interface::commandline, role::program, scope::utility
Section: utils
Priority: optional
Filename: pool/main/p/${name}/${name}_${VERSION}_amd64.deb
Size: ${(index * 104_729) % 10_000_000}
SHA256: ${noise.slice(32, 96)}
`
}

/** Files of a folder, with ETags as archives have them. */
export async function serveFolder(folder: string): Promise<{ url: string } & AsyncDisposable> {
  const server = createServer(async ({ url = '', headers }, response) => {
    const path = join(folder, url)
    const found = await stat(path).catch(() => undefined)
    const etag = `"${found?.size}-${found?.mtimeMs}"`
    if (!found?.isFile()) response.writeHead(404).end()
    else if (headers['if-none-match'] === etag) response.writeHead(304, { etag }).end()
    else createReadStream(path).pipe(response.writeHead(200, { etag, 'content-length': found.size }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}
