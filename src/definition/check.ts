import type { SourceLocation } from '../core/errors.ts'

/**
 * A question to a finished machine, with the answer that it must give. Written by users in `checks`, and by
 * hardening items to prove themselves; asked of a clone, never of the machine that was built.
 */
export type Check = {
  /** what reports call it: unique within one report */
  id: string
  title: string
  /** who asks for it: `CIS Debian 12 5.1.20`; none for the definition's own checks */
  sources: readonly string[]
  /** the line of the definition that it stands in */
  where?: SourceLocation
} & Question

export type Question =
  | {
      kind: 'command'
      /** run as root by /bin/sh */
      command: string
      exit: number
      /** a regular expression (of JavaScript, with flag m) that is found in stdout */
      output?: string
      /** a regular expression that no line of stdout fits */
      lacks?: string
      /** that it may take, where a minute is too short */
      seconds?: number
    }
  | {
      kind: 'file'
      path: string
      /** missing: where it is not there, nothing is asked of it */
      present?: boolean
      /** octal digits, permission bits and nothing else: what it may have at most */
      mode?: string
      /** user:group */
      owner?: string
      /** a regular expression (flag m) that is found in it */
      contains?: string
      /** a regular expression (flag m) that is not */
      lacks?: string
    }
  | { kind: 'package'; package: string; installed: boolean }
  | {
      kind: 'service'
      /** a systemd unit, with its suffix */
      unit: string
      state: 'active' | 'inactive' | 'enabled' | 'disabled' | 'masked'
    }
  | { kind: 'port'; port: number; protocol: 'tcp' | 'udp'; listening: boolean }
  | {
      kind: 'sshd'
      /** as `sshd -T` writes it: in lower case */
      keyword: string
      /** a regular expression for the whole value; of a keyword that stands there several times, for one of them */
      value: string
    }
  | { kind: 'sysctl'; key: string; value: string }
