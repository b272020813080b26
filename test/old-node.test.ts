import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'

/** What `npm ci` says where an older Node runs npm: our own Node comes with it, so that is not worth a word. */
test('npm says nothing of the Node that starts it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-npm-'))
  try {
    for (const name of ['package.json', 'package-lock.json', '.npmrc']) await cp(name, join(folder, name))
    const old = join(folder, 'old.cjs')
    // Old enough for the packages, new enough for any npm not to refuse it.
    await writeFile(old, "Object.defineProperty(process, 'version', { value: 'v20.20.0' })\n")
    const npm = (...more: string[]) =>
      execa('npm', ['ci', '--dry-run', '--offline', ...more], {
        cwd: folder,
        env: { NODE_OPTIONS: `--require ${old}` },
        all: true,
      })
    expect((await npm()).all).not.toContain('EBADENGINE')
    // It would have had something to say.
    expect((await npm('--loglevel=warn')).all).toContain('EBADENGINE')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
