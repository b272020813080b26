import type { Layer, LxcSpec, VmSpec } from '../../src/definition/spec.ts'

export const WHERE = { file: 'images/web/image.yaml', line: 7, column: 5 }

export const bytes = (text: string) => new TextEncoder().encode(text)

type Of<Kind> = Extract<Layer, { kind: Kind }>

export const shellLayer = (change: Partial<Of<'shell'>> = {}): Of<'shell'> => ({
  name: 'shell: true',
  where: WHERE,
  timeoutSeconds: 60,
  kind: 'shell',
  script: bytes('true\n'),
  user: 'root',
  env: {},
  secrets: {},
  ...change,
})

export const packagesLayer = (change: Partial<Of<'packages'>> = {}): Of<'packages'> => ({
  name: 'packages: nginx',
  where: WHERE,
  timeoutSeconds: 60,
  kind: 'packages',
  install: ['nginx'],
  remove: [],
  upgrade: false,
  ...change,
})

export const fileLayer = (change: Partial<Of<'file'>> = {}): Of<'file'> => ({
  name: 'file: /etc/motd',
  where: WHERE,
  timeoutSeconds: 60,
  kind: 'file',
  path: '/etc/motd',
  content: bytes('hello\n'),
  mode: '0644',
  owner: 'root:root',
  ...change,
})

const unsecured = {
  ssh: { principals: {}, where: WHERE },
  hardening: { profile: 'none', containers: false, postQuantum: false, except: {}, where: WHERE },
  checks: [],
  repositories: [],
} satisfies Partial<VmSpec>

/** An image as the loader hands it over. */
export function imageSpec(change: Partial<VmSpec> = {}): VmSpec {
  return {
    name: 'web',
    kind: 'vm',
    source: { kind: 'release', release: 'debian/12', fallback: true, architecture: 'amd64', where: WHERE },
    hardware: {
      cores: 1,
      sockets: 1,
      cpu: 'x86-64-v2-AES',
      memory: 1024,
      bios: 'seabios',
      ostype: 'l26',
      vga: 'serial0',
    },
    cloudInit: [],
    layers: [packagesLayer(), fileLayer(), shellLayer()],
    ...unsecured,
    template: { tags: [], keep: 3 },
    build: { bootTimeout: 900, timeout: 7200 },
    where: WHERE,
    ...change,
  }
}

/** A container's image as the loader hands it over. */
export function lxcSpec(change: Partial<LxcSpec> = {}): LxcSpec {
  return {
    name: 'web',
    kind: 'lxc',
    source: { kind: 'release', release: 'debian/12', fallback: true, architecture: 'amd64', where: WHERE },
    hardware: { cores: 1, memory: 512, swap: 512, rootfs: 4 * 2 ** 30 },
    unprivileged: true,
    features: { nesting: false },
    cloudInit: [],
    layers: [packagesLayer()],
    ...unsecured,
    template: { tags: [], archive: false, keep: 3 },
    build: { bootTimeout: 900, timeout: 7200 },
    where: WHERE,
    ...change,
  }
}
