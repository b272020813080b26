import { expect, test } from 'vitest'
import type { Layer } from '../../src/definition/spec.ts'
import { compareFileLayers } from '../../src/plan/file-layers.ts'
import { makePlan, sourceRequest } from '../../src/plan/plan.ts'
import { type PlanRecord, recordPlan } from '../../src/plan/record.ts'
import { bytes, fileLayer, imageSpec, packagesLayer } from './spec.ts'

/** As it comes back from its file. */
function record(...layers: Layer[]): PlanRecord {
  const image = imageSpec({ layers })
  const source = {
    request: sourceRequest(image.source),
    identity: 'sha512:abc',
    version: '20260101-1',
    fallback: false,
  }
  const plan = makePlan(image, { sourceIdentity: source.identity, ssh: { authorities: [] } })
  return JSON.parse(JSON.stringify(recordPlan(plan, { version: '1', tool: '0.1.0', source, root: '/' })))
}

const site = (content: string, mode = '0644') =>
  fileLayer({ path: '/etc/nginx/conf.d/site.conf', content: bytes(content), mode })

test('a file whose content has changed, with the lines that differ', () => {
  const changes = compareFileLayers(
    record(packagesLayer(), site('listen 80;\nroot /srv;\n')),
    record(site('listen 8080;\nroot /srv;\n')),
  )
  expect(changes).toEqual([
    {
      path: '/etc/nginx/conf.d/site.conf',
      before: expect.stringMatching(/^0644 root:root sha256:/),
      after: expect.stringMatching(/^0644 root:root sha256:/),
      lines: expect.stringMatching(/^-listen 80;\n\+listen 8080;$/m),
    },
  ])
})

test('of a file that not everybody may read, no line', () => {
  const [change] = compareFileLayers(record(site('key one\n', '0600')), record(site('key two\n', '0600')))
  expect(change?.before).not.toBe(change?.after)
  expect(change?.lines).not.toMatch(/key (one|two)/)
})

test('one that is new, one that is gone, one that only another layer order makes different', () => {
  const motd = fileLayer()
  const issue = fileLayer({ path: '/etc/issue' })
  expect(compareFileLayers(record(motd), record(issue))).toMatchObject([
    { path: '/etc/issue', before: null },
    { path: '/etc/motd', after: null },
  ])
  expect(compareFileLayers(record(motd, issue), record(issue, motd))).toEqual([])
})
