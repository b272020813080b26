/** What can be in an archive, past the checks. */
export type Kind = 'file' | 'directory' | 'symlink' | 'hardlink' | 'fifo' | 'device'

/** One entry; all strings are bytes as latin1 (names.ts). */
export interface Entry {
  /** normal form: no `./`, '' for the root */
  path: string
  /** as it stood in the archive, for messages */
  name: string
  kind: Kind
  /** permissions with setuid, setgid and sticky */
  mode: number
  uid: number
  gid: number
  /** whole seconds since 1970 */
  mtime: number
  /** bytes of contents; 0 for all that is no file */
  size: number
  /** where a symlink points to, as it was; where a hard link points to, in normal form; otherwise '' */
  target: string
  /** pax records of extended attributes and ACLs, sorted by key */
  attributes: readonly (readonly [key: string, value: string])[]
}
