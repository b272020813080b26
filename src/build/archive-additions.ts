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
export function additionsFor(image: LxcSpec, contents: ArchiveContents): ArchiveFile[] {
  if (!contents.init) {
    throw unfit(
      image,
      'there is no init in it (/sbin/init)',
      'it must hold the root file system of a whole system',
    )
  }
  return [...(contents.sshd ? [] : sshServer(image, contents)), ...cloudInitSeed(image, contents)]
}

/** Installed on the first boot by the system itself. Proxmox makes host keys only where there is a folder for them. */
function sshServer(image: LxcSpec, contents: ArchiveContents): ArchiveFile[] {
  if (!contents.has('usr/bin/apt-get') || !contents.has('usr/bin/systemctl')) {
    throw unfit(
      image,
      'there is no SSH server in it, and without apt and systemd none can be installed by itself',
      'take an archive that has one: the `cloud` variants of images.linuxcontainers.org do',
    )
  }
  return [
    { type: 'directory', path: '/etc/ssh' },
    { type: 'file', path: '/etc/systemd/system/imagebuild-sshd.service', content: INSTALL_SSHD },
    {
      type: 'symlink',
      path: '/etc/systemd/system/multi-user.target.wants/imagebuild-sshd.service',
      target: '/etc/systemd/system/imagebuild-sshd.service',
    },
  ]
}

/** Sealing removes it. Until the network is there, apt fails at once: hence the tries. */
const INSTALL_SSHD = `[Unit]
Description=Install the SSH server that imagebuild logs in by
After=network-online.target
Wants=network-online.target
ConditionPathExists=!/usr/sbin/sshd

[Service]
Type=oneshot
Environment=DEBIAN_FRONTEND=noninteractive
ExecStart=/bin/sh -c 'for try in 1 2 3 4 5 6 7 8 9 10; do apt-get -q update && apt-get -q -y --no-install-recommends install openssh-server && exit 0; sleep 3; done; exit 1'
`

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
