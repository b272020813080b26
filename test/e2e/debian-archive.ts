import { existsSync } from 'node:fs'
import { mkdir, rename } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'

const CACHE_DIR = process.env.IMAGEBUILD_CACHE_DIR ?? join(tmpdir(), 'imagebuild-e2e-cache')

const PACKAGES = ['systemd-sysv', 'dbus', 'ifupdown', 'isc-dhcp-client', 'openssh-server', 'iproute2']

/**
 * A Debian 12 for containers, made once per machine: what an appliance list would offer; or, without an SSH server, what
 * the plain variants of images.linuxcontainers.org are.
 */
export async function debianArchive({ sshd = true } = {}): Promise<string> {
  const name = sshd ? 'debian-12-container' : 'debian-12-without-sshd'
  const file = join(CACHE_DIR, `${name}.tar.zst`)
  if (existsSync(file)) return file
  await mkdir(CACHE_DIR, { recursive: true })
  const partial = join(CACHE_DIR, `${name}.${process.pid}.tar.zst`)
  const packages = PACKAGES.filter((one) => sshd || one !== 'openssh-server')
  const include = `--include=${packages.join(',')}`
  await execa('mmdebstrap', ['--quiet', '--variant=minbase', include, 'bookworm', partial])
  await rename(partial, file)
  return file
}
