import { existsSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { withWorkFolder } from '../../src/source/work-folder.ts'
import { CACHE_DIR } from './harness.ts'

/** What makes such archives masks them: the root of an unprivileged container can mount no debugfs and load no module. */
const MASK = 'chroot "$1" systemctl --quiet mask sys-kernel-debug.mount systemd-modules-load.service'

const BARE = ['systemd-sysv', 'dbus', 'iproute2']
const COMPLETE = ['ifupdown', 'isc-dhcp-client', 'openssh-server']

/**
 * A Debian for containers, made once per machine: 13 as an appliance list would offer it; or 12, bare, as those of
 * images.linuxcontainers.org are: without an SSH server, and with networkd instead of ifupdown.
 */
export async function debianArchive({ bare = false } = {}): Promise<string> {
  const name = bare ? 'debian-12-bare-archive' : 'debian-13-archive'
  const file = join(CACHE_DIR, `${name}.tar.zst`)
  if (existsSync(file)) return file
  const packages = bare ? BARE : [...BARE, ...COMPLETE]
  const include = `--include=${packages.join(',')}`
  const options = ['--quiet', '--variant=minbase', include, `--customize-hook=${MASK}`]
  // Another checkout's tests may make the same meanwhile: each has a folder of its own, and the last takes the place.
  await withWorkFolder(CACHE_DIR, 'archive', async (folder) => {
    const partial = join(folder, 'archive.tar.zst')
    await execa('mmdebstrap', [...options, bare ? 'bookworm' : 'trixie', partial])
    await rename(partial, file)
  })
  return file
}
