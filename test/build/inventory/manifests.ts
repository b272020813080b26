import type { Manifest, Package } from '../../../src/build/inventory/manifest.ts'

export function aPackage(name: string, version: string, change: Partial<Package> = {}): Package {
  return {
    ...{ name, version, architecture: 'amd64', source: name, sourceVersion: version },
    ...{ status: 'installed', manual: false, held: false, ...change },
  }
}

export function aManifest(change: Partial<Manifest> = {}): Manifest {
  return {
    schema: 1,
    image: 'web',
    version: '20260701.1',
    kind: 'vm',
    digest: 'sha256:1234',
    built: '2026-07-01T10:00:00.000Z',
    distribution: {
      id: 'debian',
      version: '12',
      codename: 'bookworm',
      name: 'Debian GNU/Linux 12 (bookworm)',
    },
    kernels: ['6.1.0-37-amd64'],
    packages: [aPackage('dash', '0.5.12-2'), aPackage('zstd', '1.5.4+dfsg2-5')],
    sshd: { port: ['22'], acceptenv: ['LANG', 'LC_*'], permitrootlogin: ['no'] },
    sysctl: {
      'kernel.kptr_restrict': { configured: '2', effective: '2' },
      'kernel.sysrq': { effective: '438' },
    },
    ports: [{ protocol: 'tcp', address: '0.0.0.0', port: 22, processes: ['sshd'] }],
    privileged: [{ path: '/usr/bin/su', mode: '4755', owner: 'root:root' }],
    capabilitiesRead: true,
    units: { 'ssh.service': 'enabled' },
    users: [{ name: 'root', uid: 0, shell: '/bin/bash' }],
    size: 900 * 2 ** 20,
    ...change,
  }
}
