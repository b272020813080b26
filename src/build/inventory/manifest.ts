import type { AptSource } from '../../updates/apt-source.ts'

/**
 * What is in an image, as it was at the end of its build. Kept as JSON beside the project: other versions of imagebuild
 * read it, so a field's meaning never changes within a schema. Two builds of the same have the same manifest, but for
 * `version`, `built` and some bytes of `size`. `null` where the system had nothing to ask for it; lists are sorted.
 */
export interface Manifest {
  schema: 1
  image: string
  version: string
  kind: 'vm' | 'lxc'
  /** of the definition, complete */
  digest: string
  /** when it was written, ISO 8601, UTC */
  built: string
  /** os-release(5): ID, VERSION_ID, VERSION_CODENAME, PRETTY_NAME */
  distribution: { id: string; version: string; codename: string; name: string }
  /** versions of the kernels in /boot; none in a container */
  kernels: string[]
  packages: Package[] | null
  /** where apt gets packages from, and whom it believes; manifests of earlier versions do not have it */
  apt?: Apt | null
  /** what `sshd -T` says, by keyword in small letters; keywords that stand more than once have several values */
  sshd: Record<string, string[]> | null
  sysctl: Record<string, Sysctl>
  ports: Port[] | null
  /** files that run with rights of their own: setuid, setgid, capabilities(7) */
  privileged: PrivilegedFile[]
  /** whether the capabilities of files could be read; otherwise `privileged` says nothing of them */
  capabilitiesRead: boolean
  /** systemd's unit files that are enabled or masked */
  units: Record<string, 'enabled' | 'masked'> | null
  /** who has a shell to log in with; without the account that only the build had */
  users: User[]
  /** bytes of all files of the root file system; without logs, caches and what sealing removes */
  size: number
}

export interface Package {
  name: string
  version: string
  architecture: string
  source: string
  sourceVersion: string
  /** as dpkg calls it: `installed`, `config-files`, … */
  status: string
  /** asked for by somebody, and not only by another package */
  manual: boolean
  /** apt-mark hold */
  held: boolean
}

export interface Apt {
  /** those that are enabled, sources.list(5) */
  sources: AptSource[]
  /** those that every source may be signed with, and those that a source names */
  keyrings: { path: string; sha256: string | null }[]
}

export interface Sysctl {
  /** by the last of the files that sysctl.d(5) names */
  configured?: string
  /** by the kernel, where that is the image's own: never in a container */
  effective?: string
}

export interface Port {
  protocol: 'tcp' | 'udp'
  /** `own` for whatever address the machine had */
  address: string
  /** `dynamic` where the kernel chose one */
  port: number | 'dynamic'
  /** names of the processes that hold it, nothing of their arguments; none for the kernel's own */
  processes: string[]
}

export interface PrivilegedFile {
  path: string
  /** octal, and `user:group`, of setuid and setgid files */
  mode?: string
  owner?: string
  /** as cap_to_text(3) writes them: `cap_net_raw=ep` */
  capabilities?: string
}

export interface User {
  name: string
  uid: number
  shell: string
}
