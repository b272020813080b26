import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { rewriteArchive } from '../../src/archive/rewrite.ts'
import { workplace } from './workplace.ts'

const SEEDS = Array.from({ length: 12 }, (_, seed) => seed + 1)

/** Any tree on the disk, packed by tar and rewritten, is what `tar --compare` finds on the disk. */
test.each(SEEDS)('tree %i compares equal with what is on the disk', async (seed) => {
  await using folder = await workplace()
  const root = join(folder.path, 'root')
  await mkdir(root)
  const random = generator(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const folders = [root]
  const files: string[] = []
  const script: string[] = []
  for (let index = 0; index < 60; index++) {
    const name = `${'näme-'.repeat(below(12))}${index}${'z'.repeat(below(90))}`
    const path = join(folders[below(folders.length)] as string, name)
    const kind = below(5)
    if (kind === 0 && path.length < 900) {
      await mkdir(path)
      folders.push(path)
    } else if (kind === 1 && files.length > 0) {
      script.push(`ln "${files[below(files.length)]}" "${path}"`)
    } else if (kind === 2) {
      script.push(`ln -s "${'../'.repeat(below(4))}${'t'.repeat(1 + below(140))}" "${path}"`)
    } else {
      await writeFile(path, Buffer.alloc(below(3) * below(70_000), `${seed} ${index} `))
      files.push(path)
      script.push(
        `chown ${below(2) * 3_000_000 + below(99)}:${below(9)} "${path}"`,
        `chmod ${below(0o10000).toString(8)} "${path}"`,
      )
    }
    script.push(`touch -h -d @${below(2_000_000_000)} "${path}"`)
  }
  await execa('bash', ['-ec', script.join('\n')])
  const tar = await execa('tar', [below(2) ? '--format=gnu' : '--format=pax', '-c', '.'], {
    cwd: root,
    encoding: 'buffer',
  })
  // In pieces that end anywhere.
  const bytes = Buffer.from(tar.stdout)
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; at += (pieces.at(-1) as Buffer).length) {
    pieces.push(bytes.subarray(at, at + 1 + below(60_000)))
  }
  const output = join(folder.path, 'out.tar.zst')
  await rewriteArchive({ input: Readable.from(pieces), output, signal: new AbortController().signal })
  const compared = await execa(
    'tar',
    ['--use-compress-program=zstd', '--numeric-owner', '--compare', '-f', output],
    { cwd: root, reject: false },
  )
  expect(compared.stdout + compared.stderr).toBe('')
  const names = (text: string) => text.split('\n').toSorted()
  const before = await execa('tar', ['-t', '--quoting-style=literal'], { input: bytes })
  const after = await execa('tar', ['--use-compress-program=zstd', '-tf', output, '--quoting-style=literal'])
  expect(names(after.stdout)).toEqual(names(before.stdout))
})

function generator(seed: number): () => number {
  let state = seed * 2_654_435_761
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}
