import { expect, test } from 'vitest'
import { parseLynis } from '../../audit/lynis.ts'

/** From Debian 12's lynis on an image without hardening. */
const CAPTURED = `# Lynis Report
report_version_major=1
report_version_minor=0
lynis_version=3.0.8
os=Linux
suggestion[]=DEB-0280|Install libpam-tmpdir to set $TMP and $TMPDIR for PAM sessions|-|-|
warning[]=KRNL-5830|Reboot of system is most likely needed||text:reboot|
suggestion[]=DEB-0811|Install apt-listchanges to display any significant changes prior to any upgrade via APT.|-|-|
slow_test[]=CRYP-7902,22.624222
hardening_index=56
`

test('version, index, and warnings and suggestions with the test that makes them', () => {
  expect(parseLynis(CAPTURED)).toEqual({
    version: '3.0.8',
    index: 56,
    warnings: ['KRNL-5830: Reboot of system is most likely needed'],
    suggestions: [
      'DEB-0280: Install libpam-tmpdir to set $TMP and $TMPDIR for PAM sessions',
      'DEB-0811: Install apt-listchanges to display any significant changes prior to any upgrade via APT.',
    ],
  })
})

test('a scan that was cut short has no index, and is no result', () => {
  expect(() => parseLynis(CAPTURED.replace(/^hardening_index.*\n/m, ''))).toThrow('hardening_index')
})
