import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import type { CiResult } from '../../src/cli/ci-result.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { nodeGuests } from '../../src/pve/guest-ref.ts'
import { startProxy } from '../campaign/proxy.ts'
import { type Ranges, startedLab, tinyProject } from '../campaign/tiny-project.ts'
import { tinySource } from '../campaign/tiny-system.ts'
import { serveGithub } from '../ci/github-server.ts'
import { serve } from '../notify/server.ts'
import { type Answer, serveFiles } from '../source/file-server.ts'
import { type ArchiveFacts, archiveFiles, SigningKey, withEtag } from '../updates/signed-archive.ts'
import { labClient, ROOT } from './harness.ts'
import { packagesFile, type TinyPackage, tinyLayers, tinyUpdates } from './tiny-distribution.ts'

/**
 * All that scheduled runs deal with, on this machine: a lab behind a proxy that counts, an archive that the test signs, a forge,
 * and somebody to tell. The tiny system's apt-get upgrades to what `NEW` says.
 */

export const OLD: TinyPackage = { name: 'openssl', version: '3.5.0-1' }
export const NEW: TinyPackage = { name: 'openssl', version: '3.5.1-1' }

const APT_GET = `#!/bin/sh
case " $* " in *' full-upgrade '*) echo '${NEW.version}' > /var/lib/upgraded ;; esac
`
/** What a layer does with it: the definition, and so its digest, stays the same. */
const UPGRADED = `[ ! -e /var/lib/upgraded ] || sed -i 's/${OLD.version}/${NEW.version}/g' /var/lib/dpkg-packages`

/** A layer by which all clones show the same host key, which verifying sees from outside. */
export const SAME_KEYS = `  - shell: |
      ssh-keygen -q -t ed25519 -N '' -f /var/lib/planted
      sed -i 's|ssh-keygen -q.*|cp /var/lib/planted $key|' /sbin/init
`

export type CiWorld = Awaited<ReturnType<typeof ciWorld>>

export async function ciWorld(ranges: Ranges) {
  await using stack = new AsyncDisposableStack()
  const key = stack.use(new SigningKey())
  const answers: Record<string, Answer> = {}
  const archive = stack.use(await serveFiles(answers))
  const github = stack.use(await serveGithub())
  const told = stack.use(await serve(() => ({ status: 200 })))
  const lab = await startedLab()
  const proxy = stack.use(await startProxy({ upstream: lab }))
  const tiny = stack.use(await tinyProject(lab, ranges, proxy))
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-ci-world-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const source = await tinySource(folder, undefined, { 'usr/bin/apt-get': APT_GET })
  const { project } = tiny
  const config = await readFile(join(project.root, 'imagebuild.yaml'), 'utf8')
  await project.write({
    'imagebuild.yaml': `${config}
ci:
  pullRequest: { kind: github, api: "${github.api}", repository: acme/images, base: main, token: env:FORGE_TOKEN }
  notify: [{ kind: webhook, url: env:TELL_WEBHOOK }]
  ping: [{ kind: healthchecks, url: env:TELL_PING }]
`,
  })
  github.git.push('main', { 'README.md': 'images\n' })
  const env = {
    ...tiny.env,
    ...{ IMAGEBUILD_VERIFY: 'full', FORGE_TOKEN: 'ghs_token-of-the-tests' },
    ...{ TELL_WEBHOOK: `${told.url}/hook`, TELL_PING: `${told.url}/ping` },
  }
  const pve = await labClient()
  stack.defer(async () => {
    const [first = 0, last = 0] = [ranges.templates.split('-')[0], ranges.claims.split('-')[1]].map(Number)
    const signal = AbortSignal.timeout(120_000)
    for (const { kind, vmid } of await nodeGuests(pve, 'lab'))
      if (vmid >= first && vmid <= last) await destroyGuest(pve, { kind, node: 'lab', vmid, signal })
    await pve[Symbol.asyncDispose]()
  })
  const owned = stack.move()
  let dates = 0
  return {
    ...{ project, proxy, github, pve, env, source, archive },
    /** What the archive has from now on; newer than before. */
    publish(packages: readonly TinyPackage[], facts: ArchiveFacts = {}) {
      const date = `Sat, 28 Nov 2026  9:${String(10 + dates++)}:00 UTC`
      const lists = { 'main/binary-amd64': packagesFile(packages) }
      const files = archiveFiles(key, { suite: 'tiny-security', lists, date, ...facts })
      for (const [path, data] of Object.entries(files)) answers[path] = withEtag(data)
    },
    /** An image with these packages; `more` are further lines of its definition. */
    definition(
      name: string,
      packages: readonly TinyPackage[],
      { from = source, more = '', layers: further = '' } = {},
    ) {
      const layers = `provision:\n${tinyLayers(archive.url, packages)}  - shell: ${JSON.stringify(UPGRADED)}\n${further}`
      return {
        [`images/${name}/image.yaml`]: `name: ${name}
kind: lxc
${from}
hardware: { rootfs: 64M, memory: 64 }
hardening: none
build: { bootTimeout: 60s }
${tinyUpdates(archive.url)}${packages.length === 0 ? '' : layers}${more}`,
        [`images/${name}/key.asc`]: key.armored(),
      }
    },
    /** `imagebuild ci …`, started for what main has now, in the project or in a clone of it. */
    async ci(args: readonly string[], cwd = project.root, more: Record<string, string> = {}) {
      const commit = github.git.branches.get('main') ?? ''
      const { exitCode, stdout, stderr } = await execa(join(ROOT, 'imagebuild'), ['ci', ...args], {
        ...{ cwd, reject: false, stdin: 'ignore' },
        env: { NO_COLOR: '1', CI: '', ...env, IMAGEBUILD_TARGET: 'lab', GITHUB_SHA: commit, ...more },
      })
      return { exitCode, stdout, stderr, result: () => JSON.parse(stdout) as CiResult }
    },
    /** Somebody merges the open pull request. */
    merge(branch = 'imagebuild/rebuild-lab') {
      github.git.push('main', github.git.filesAt(github.git.branches.get(branch) ?? ''))
      for (const pull of github.pulls) pull.state = 'closed'
      github.git.branches.delete(branch)
    },
    /** A checkout of what the project is now, without what runs have left in it. */
    async clone(): Promise<string> {
      const root = await mkdtemp(join(folder, 'clone-'))
      await cp(project.root, root, { recursive: true, filter: (path) => !path.endsWith('/.imagebuild') })
      return root
    },
    /** Changes of the cluster since a call; a login is none. */
    writesSince: (start: number) =>
      proxy.calls
        .slice(start)
        .filter(({ method, path }) => method !== 'GET' && path !== '/access/ticket')
        .map(({ method, path }) => `${method} ${path}`),
    /** What was told since this was asked the last time: pings by their paths, messages by their titles. */
    toldSince() {
      return told.received
        .splice(0)
        .map(({ url, body }) =>
          url.pathname === '/hook' ? (JSON.parse(body) as { title: string }).title : url.pathname,
        )
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
