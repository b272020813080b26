import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { renderMetrics } from '../../src/notify/metrics.ts'
import { PYTHON } from '../seed/python.ts'
import { built, failed, image, listener, run } from './runs.ts'

/** Prometheus' own reader of the format, in Python. */
const READER = `
import json, sys
from prometheus_client.parser import text_string_to_metric_families
print(json.dumps([
    [family.name, family.type, family.documentation, [[s.labels, s.value] for s in family.samples]]
    for family in text_string_to_metric_families(sys.stdin.read())
]))`

type Family = [
  name: string,
  type: string,
  help: string,
  samples: [labels: Record<string, string>, value: number][],
]

function read(text: string): Family[] {
  return JSON.parse(execFileSync(PYTHON, ['-c', READER], { input: text, encoding: 'utf8' }))
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'imagebuild-metrics-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

const place = { namespace: 'homelab', target: 'home' }

test('what Prometheus reads is what the run was', () => {
  const families = read(renderMetrics(run([built, failed, image({ image: 'db' })])))
  const values = Object.fromEntries(families.map(([name, , , samples]) => [name, samples]))
  expect(values).toEqual({
    imagebuild_ci_last_run_timestamp_seconds: [[place, Date.UTC(2026, 10, 1, 3, 4, 5) / 1000]],
    imagebuild_ci_last_run_success: [[place, 0]],
    imagebuild_ci_last_run_duration_seconds: [[place, 245]],
    imagebuild_ci_stale_images: [[place, 1]],
    imagebuild_ci_image_stale: [
      [{ ...place, image: 'debian-base' }, 0],
      [{ ...place, image: 'web' }, 1],
      [{ ...place, image: 'db' }, 0],
    ],
    imagebuild_ci_image_duration_seconds: [
      [{ ...place, image: 'debian-base' }, 184],
      [{ ...place, image: 'web' }, 61],
      [{ ...place, image: 'db' }, 0],
    ],
    imagebuild_ci_image_info: [
      [
        {
          ...place,
          image: 'debian-base',
          outcome: 'built',
          version: '20261101.1',
          node: 'pve1',
          vmid: '9003',
        },
        1,
      ],
      [
        {
          ...place,
          image: 'debian-base',
          outcome: 'built',
          version: '20261101.1',
          node: 'pve2',
          vmid: '9004',
        },
        1,
      ],
      [{ ...place, image: 'web', outcome: 'failed', version: '20260901.2', node: 'pve1', vmid: '9003' }, 1],
      [{ ...place, image: 'db', outcome: 'unchanged', version: '20261101.1', node: 'pve1', vmid: '9003' }, 1],
    ],
  })
  expect(families.every(([, type, help]) => type === 'gauge' && help.endsWith('.'))).toBe(true)
})

test('labels are read as they were, whatever is in them', () => {
  const odd = 'a"b\\n\\c\nd{e}="f", ä'
  const [, , , samples] = read(renderMetrics(run([image({ image: odd })]))).find(([name]) =>
    name.endsWith('image_stale'),
  ) as Family
  expect(samples).toEqual([[{ ...place, image: odd }, 0]])
})

test('a run without images has no metric without a sample', () => {
  const names = read(renderMetrics(run([], { exitStatus: 69 }))).map(([name]) => name)
  expect(names).not.toContain('imagebuild_ci_image_stale')
  expect(names).toContain('imagebuild_ci_last_run_success')
})

test('the file is replaced whole, and others may read it whatever the umask', async () => {
  const before = process.umask(0o077)
  onTestFinished(() => void process.umask(before))
  const at = folder()
  const path = join(at, 'imagebuild.prom')
  writeFileSync(path, 'old\n', { mode: 0o600 })
  const old = statSync(path).ino
  const told = listener()
  await told.end({ metrics: path }, run([built]))
  expect(told.warnings).toEqual([])
  expect(readFileSync(path, 'utf8')).toBe(renderMetrics(run([built])))
  expect(statSync(path).mode & 0o777).toBe(0o644)
  // Another file in its place: whoever had opened the old one reads that to its end.
  expect(statSync(path).ino).not.toBe(old)
  expect(readdirSync(at)).toEqual(['imagebuild.prom'])
})

test('a folder that is not there is said', async () => {
  const told = listener()
  await told.end({ metrics: join(folder(), 'missing', 'imagebuild.prom') }, run([built]))
  expect(told.warnings).toEqual([
    expect.stringMatching(
      /^the metrics file \S+ was not written: ENOENT.* \(make its folder, the one that node_exporter has as --collector/,
    ),
  ])
})
