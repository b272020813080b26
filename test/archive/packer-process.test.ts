import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { startPacker } from '../../src/archive/packer-process.ts'

test('what a packer has printed is there also for who comes after its end', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-packer-'))
  await writeFile(join(folder, 'a.gz'), gzipSync('all of it'))
  await using file = await open(join(folder, 'a.gz'))
  const signal = new AbortController().signal
  await using packer = startPacker(['gzip', '--decompress', '--stdout'], { stdin: file.fd }, signal)
  await delay(500)
  const chunks: Buffer[] = []
  for await (const chunk of packer.stdout) chunks.push(chunk as Buffer)
  await packer.done
  expect(Buffer.concat(chunks).toString()).toBe('all of it')
  await rm(folder, { recursive: true })
})
