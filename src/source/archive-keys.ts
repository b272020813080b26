import { access } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * What Debian's and Ubuntu's package indexes are signed with. The keys are carried along, without their certifications:
 *
 * `keys/debian-archive.gpg`, from the package debian-archive-keyring 2025.1 (archive, security archive and stable release of
 * Debian 11, 12 and 13):
 *   1F89983E0081FDE018F3CC9673A4F27B8DD47936  AC530D520F2F3269F5E98313A48449044AAD5C5D  A4285295FC7B1A81600062A9605C66F00D6C9793
 *   B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8  05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0  4D64FEC119C2029067D6E791F8D2585B8783D481
 *   04B54C3CDCA79751B16BC6B5225629DF75B188BD  5E04A1E3223A19A20706E20F9904613D4CCE68C6  41587F7DB8C774BCCF131416762F67A0B2C39DE4
 *
 * `keys/ubuntu-archive.gpg`, from Debian's package ubuntu-archive-keyring 2023.11.28.1-0.2 (archive, 2012 and 2018):
 *   790BC7277767219C42C86F933B4FE6ACC0B21F32  F6ECB3762474EDA9D21B7022871920D1991BC93C
 */
const CARRIED = {
  debian: join(import.meta.dirname, 'keys/debian-archive.gpg'),
  ubuntu: join(import.meta.dirname, 'keys/ubuntu-archive.gpg'),
} as const

/** Where the distributions' packages put them: they may know keys of releases that came later. */
const INSTALLED = {
  debian: '/usr/share/keyrings/debian-archive-keyring.gpg',
  ubuntu: '/usr/share/keyrings/ubuntu-archive-keyring.gpg',
} as const

/** Keyrings of a distribution's archives: the one that is carried along, and the machine's where there is one. */
export async function archiveKeyrings(distribution: 'debian' | 'ubuntu'): Promise<string[]> {
  const installed = INSTALLED[distribution]
  const isThere = await access(installed).then(
    () => true,
    () => false,
  )
  return [CARRIED[distribution], ...(isThere ? [installed] : [])]
}
