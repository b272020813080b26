import { readFile } from 'node:fs/promises'
import type { ArchiveFile } from '../archive/additions.ts'
import type { ArchiveContents } from '../archive/contents.ts'
import { ImagebuildError } from '../core/errors.ts'
import type { LxcSpec } from '../definition/spec.ts'
import type { CloudConfig } from '../seed/cloud-config.ts'
import { containerSeed } from '../seed/nocloud.ts'

/**
 * What an archive lacks for a build. Proxmox itself brings root's key, the network and the host keys into a container;
 * what it cannot bring is put into the archive before it is uploaded.
 * @throws ImagebuildError `definition_invalid` for an archive that no build can start from
 */
export async function additionsFor(image: LxcSpec, contents: ArchiveContents): Promise<ArchiveFile[]> {
  if (!contents.init) {
    throw unfit(
      image,
      'there is no init in it (/sbin/init)',
      'it must hold the root file system of a whole system',
    )
  }
  return [...(await preparation(image, contents)), ...cloudInitSeed(image, contents)]
}

const UNIT = 'etc/systemd/system/imagebuild-prepare.service'
const SCRIPT = 'usr/local/sbin/imagebuild-prepare'

/**
 * Packages that the system installs itself on its first boot. Debian's containers of images.linuxcontainers.org have
 * neither an SSH server nor ifupdown, by which alone Proxmox tells Debian its network; their network is meant to come
 * from cloud-init.
 */
async function preparation(image: LxcSpec, contents: ArchiveContents): Promise<ArchiveFile[]> {
  const isDebian = contents.osRelease?.ID === 'debian'
  const ifupdown = contents.has('usr/sbin/ifup') || contents.has('sbin/ifup')
  const packages = [
    ...(contents.sshd ? [] : ['openssh-server']),
    ...(isDebian && !ifupdown ? ['ifupdown', 'isc-dhcp-client'] : []),
  ]
  if (packages.length === 0) return []
  if (!contents.has('usr/bin/apt-get') || !contents.has('usr/bin/systemctl')) {
    throw unfit(
      image,
      `it lacks ${packages.join(', ')}, and without apt and systemd cannot install that by itself`,
      'take an archive that has an SSH server',
    )
  }
  return [
    // Proxmox makes host keys only where there is a folder for them.
    { type: 'directory', path: 'etc/ssh' },
    {
      type: 'file',
      path: SCRIPT,
      content: await readFile(new URL('prepare.sh', import.meta.url)),
      mode: 0o755,
    },
    { type: 'file', path: UNIT, content: unitFor(packages) },
    {
      type: 'symlink',
      path: 'etc/systemd/system/multi-user.target.wants/imagebuild-prepare.service',
      target: `/${UNIT}`,
    },
  ]
}

function unitFor(packages: readonly string[]): string {
  return `[Unit]
Description=Install what imagebuild needs to log in
After=network.target systemd-networkd.service

[Service]
Type=oneshot
ExecStart=/${SCRIPT} ${packages.join(' ')}
`
}

function cloudInitSeed(image: LxcSpec, contents: ArchiveContents): ArchiveFile[] {
  if (image.cloudInit.length === 0) return []
  if (!contents.cloudInit) {
    throw unfit(
      image,
      'the definition has cloudInit fragments, and there is no cloud-init in it',
      'take `cloudInit` out and use layers instead, or take an archive that has cloud-init',
    )
  }
  const fragments = image.cloudInit as { name: string; config: CloudConfig }[]
  return containerSeed({ hostname: image.name, fragments }).map(({ path, content }) => ({
    type: 'file',
    path,
    content,
    mode: 0o600,
  }))
}

function unfit(image: LxcSpec, why: string, next: string): ImagebuildError {
  return new ImagebuildError({
    code: 'definition_invalid',
    what: `${image.name} cannot be built from this archive`,
    where: image.source.where,
    why,
    next,
  })
}
