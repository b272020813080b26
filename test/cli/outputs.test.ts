import { describe, expect, test } from 'vitest'
import { formatOutputs } from '../../src/cli/commands/outputs.ts'
import { formatTable } from '../../src/cli/table.ts'

const CURRENT = {
  'debian-base': {
    kind: 'vm' as const,
    vmid: 9000,
    node: 'pve',
    version: '20260101.1',
    digest: 'sha256:ab',
    built: '2026-01-01T00:00:00.000Z',
  },
  web: {
    kind: 'lxc' as const,
    vmid: 9001,
    node: 'pve',
    version: '20260101.2',
    digest: 'sha256:cd',
    built: '2026-01-01T01:00:00.000Z',
    archive: 'local:vztmpl/web-20260101.2.tar.zst',
  },
}

describe('outputs', () => {
  test('json is the map itself', () => {
    expect(JSON.parse(formatOutputs(CURRENT, 'json'))).toEqual(CURRENT)
  })

  test('tfvars and ansible are JSON with one variable, whose name both accept', () => {
    for (const format of ['tfvars', 'ansible'] as const)
      expect(JSON.parse(formatOutputs(CURRENT, format))).toEqual({ imagebuild_templates: CURRENT })
  })

  test('env is one assignment per line that a shell can read', () => {
    const lines = formatOutputs(CURRENT, 'env').trimEnd().split('\n')
    expect(lines).toEqual([
      'IMAGEBUILD_DEBIAN_BASE_KIND=vm',
      'IMAGEBUILD_DEBIAN_BASE_VMID=9000',
      'IMAGEBUILD_DEBIAN_BASE_NODE=pve',
      'IMAGEBUILD_DEBIAN_BASE_VERSION=20260101.1',
      'IMAGEBUILD_DEBIAN_BASE_DIGEST=sha256:ab',
      'IMAGEBUILD_DEBIAN_BASE_BUILT=2026-01-01T00:00:00.000Z',
      'IMAGEBUILD_WEB_KIND=lxc',
      'IMAGEBUILD_WEB_VMID=9001',
      'IMAGEBUILD_WEB_NODE=pve',
      'IMAGEBUILD_WEB_VERSION=20260101.2',
      'IMAGEBUILD_WEB_DIGEST=sha256:cd',
      'IMAGEBUILD_WEB_BUILT=2026-01-01T01:00:00.000Z',
      'IMAGEBUILD_WEB_ARCHIVE=local:vztmpl/web-20260101.2.tar.zst',
    ])
    for (const line of lines) expect(line).toMatch(/^[A-Z_][A-Z0-9_]*=[\w.:/-]+$/)
  })

  test('env has a variable for each node of several', () => {
    const several = { web: { ...CURRENT.web, templates: { pve: 9001, 'pve-2': 9002 } } }
    const lines = formatOutputs(several, 'env').trimEnd().split('\n')
    expect(lines.slice(-2)).toEqual(['IMAGEBUILD_WEB_VMID_PVE=9001', 'IMAGEBUILD_WEB_VMID_PVE_2=9002'])
    expect(lines.filter((line) => line.includes('TEMPLATES'))).toEqual([])
  })

  test.each(['json', 'tfvars', 'ansible'] as const)('without templates %s is still JSON', (format) => {
    expect(() => JSON.parse(formatOutputs({}, format))).not.toThrow()
  })
})

describe('a table', () => {
  test('has aligned columns, headings and no blanks at the ends of lines', () => {
    const rows = [
      { image: 'web', vmid: 9000, node: '' },
      { image: 'debian-base', vmid: 10, node: 'pve' },
    ]
    expect(formatTable(['image', 'vmid', 'node'], rows)).toBe(
      'IMAGE        VMID  NODE\nweb          9000\ndebian-base  10    pve\n',
    )
  })

  test('without rows is its headings', () => {
    expect(formatTable(['image'], [])).toBe('IMAGE\n')
  })
})
