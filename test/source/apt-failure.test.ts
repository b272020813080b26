import { expect, test } from 'vitest'
import { ImagebuildError } from '../../src/core/errors.ts'
import { AptComplaints } from '../../src/source/apt-failure.ts'

const failure = new ImagebuildError({
  code: 'build_failed',
  what: 'installing debian trixie failed',
  why: 'unshare ended with exit code 25',
})

/** As apt 3.0 prints them. */
test.each([
  [
    ['Err:1 http://mirror.example/debian trixie InRelease', '  Could not resolve host: mirror.example'],
    /mirror\.example\/debian cannot be fetched: Could not resolve host/,
  ],
  [
    [
      'E: Failed to fetch http://mirror.example/debian/dists/trixie/InRelease  404  Not Found [IP: 192.0.2.1 80]',
    ],
    /dists\/trixie\/InRelease cannot be fetched: 404 {2}Not Found/,
  ],
  [
    ["E: The repository 'http://mirror.example/debian trixie Release' does not have a Release file."],
    /mirror\.example\/debian cannot be fetched: it has no Release file/,
  ],
])('%j: the archive is named, with the reason of apt', (lines, message) => {
  const complaints = new AptComplaints()
  for (const line of lines) complaints.read(line)
  const explained = complaints.explain(failure)
  expect(explained).toMatchObject({ code: 'unreachable', message: expect.stringMatching(message) })
  expect(explained).toMatchObject({ next: expect.stringContaining('mirror') })
})

test('an archive that answers at the second try is not blamed', () => {
  const complaints = new AptComplaints()
  for (const line of [
    'Err:1 http://mirror.example/debian trixie InRelease',
    '  Connection reset',
    'Get:1 http://mirror.example/debian trixie InRelease [140 kB]',
  ])
    complaints.read(line)
  expect(complaints.explain(failure)).toBe(failure)
})

test('a failure of which apt has said nothing stays what it is', () => {
  const complaints = new AptComplaints()
  complaints.read('E: mmdebstrap failed to run')
  expect(complaints.explain(failure)).toBe(failure)
})
