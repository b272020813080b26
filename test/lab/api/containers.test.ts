import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAppliances } from '../../../src/lab/api/appliances.ts'
import { writeBackup } from '../../../src/lab/api/containers/backup-archive.ts'
import { backedUpConfig, parsePctConf, printPctConf } from '../../../src/lab/api/containers/pct-conf.ts'
import { parseNet, printNet, storedDescription } from '../../../src/lab/api/containers/values.ts'

const CONFIG = {
  arch: 'amd64',
  description: 'one: 50%\n\n#two ü\n',
  hostname: 'ct1',
  memory: 512,
  net0: 'name=eth0,bridge=vmbr0,hwaddr=BC:24:11:AA:BB:30,ip=dhcp,type=veth',
  rootfs: 'local:300/vm-300-disk-0.raw,size=4G',
  unprivileged: 1,
}

describe('the configuration file', () => {
  test('comes back as it was, numbers as numbers', () => {
    expect(parsePctConf(printPctConf(CONFIG))).toEqual(CONFIG)
  })

  test('has its notes in comments, and ends where its snapshots begin', () => {
    expect(printPctConf({ memory: 512, description: 'a\nb\n' })).toBe('#a\n#b\nmemory: 512\n')
    expect(parsePctConf('memory: 512\nbogus: 1\n\n[snap]\nmemory: 64\n')).toEqual({ memory: 512 })
  })
})

describe('a backup', () => {
  let dir: string
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'backup-'))
    await writeFile(join(dir, 'file'), 'inside')
    await execa('tar', ['--create', '--zstd', '--file', join(dir, 'tree.tar.zst'), '-C', dir, './file'])
  })
  afterAll(() => rm(dir, { recursive: true, force: true }))

  test.each(['.zst', '.gz', ''])('tar%s has the configuration, then the tree', async (suffix) => {
    const target = join(dir, `backup.tar${suffix}`)
    const { signal } = new AbortController()
    await writeBackup({ config: CONFIG, tree: join(dir, 'tree.tar.zst'), target, suffix, signal })
    const { stdout } = await execa('tar', ['--list', '--file', target])
    expect(stdout.split('\n')).toEqual(['./etc/vzdump/pct.conf', './file'])
    expect(await backedUpConfig(target)).toEqual(CONFIG)
    await execa('tar', ['--extract', '--file', target, '-C', dir, './file'])
    expect(await readFile(join(dir, 'file'), 'utf8')).toBe('inside')
  })

  test('without a configuration is refused', async () => {
    await expect(backedUpConfig(join(dir, 'tree.tar.zst'))).rejects.toThrow(
      'backup contains no configuration',
    )
  })
})

test('cards are written with what must be there first, and keep their MAC', () => {
  const text = 'ip=10.77.0.30/24,gw=10.77.0.1,bridge=vmbr0,name=eth0,hwaddr=BC:24:11:AA:BB:30'
  expect(printNet(parseNet(text))).toBe(
    'name=eth0,bridge=vmbr0,gw=10.77.0.1,hwaddr=BC:24:11:AA:BB:30,ip=10.77.0.30/24,type=veth',
  )
})

test('notes end with one newline, or are none', () => {
  expect(['a', 'a\n\n', 'a\n\nb', ''].map(storedDescription)).toEqual(['a\n', 'a\n', 'a\n\nb\n', undefined])
})

test('appliances without a place to fetch them from are left out', () => {
  const paragraph = (location: string) => `Package: a\nVersion: 1\nType: lxc\nLocation: ${location}\n`
  const text = ['http://example.org/x/a_1.tar.xz', 'system/a_1.tar.xz', 'file:///a_1.tar.xz'].map(paragraph)
  expect(parseAppliances(text.join('\n'))).toEqual([
    {
      ...{ package: 'a', version: '1', type: 'lxc', template: 'a_1.tar.xz' },
      location: 'http://example.org/x/a_1.tar.xz',
    },
  ])
})
