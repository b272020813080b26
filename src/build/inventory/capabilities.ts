/** capabilities(7), by their number. */
const NAMES = [
  ...['chown', 'dac_override', 'dac_read_search', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'setpcap'],
  ...[
    'linux_immutable',
    'net_bind_service',
    'net_broadcast',
    'net_admin',
    'net_raw',
    'ipc_lock',
    'ipc_owner',
  ],
  ...[
    'sys_module',
    'sys_rawio',
    'sys_chroot',
    'sys_ptrace',
    'sys_pacct',
    'sys_admin',
    'sys_boot',
    'sys_nice',
  ],
  ...[
    'sys_resource',
    'sys_time',
    'sys_tty_config',
    'mknod',
    'lease',
    'audit_write',
    'audit_control',
    'setfcap',
  ],
  ...['mac_override', 'mac_admin', 'syslog', 'wake_alarm', 'block_suspend', 'audit_read', 'perfmon', 'bpf'],
  'checkpoint_restore',
]

/** The lowest bit of the first word: what is permitted is also effective. */
const EFFECTIVE = 1n

/**
 * The extended attribute `security.capability` of a file in words: `cap_net_raw=ep`.
 * @param hex `struct vfs_cap_data` of linux/capability.h, little endian: a word with revision and flag, then pairs of
 *   words: permitted, inheritable; first those for capabilities 0 to 31, then the rest
 */
export function capabilityText(hex: string): string {
  const bytes = Buffer.from(hex, 'hex')
  const word = (index: number) =>
    bytes.length >= 4 * (index + 1) ? BigInt(bytes.readUInt32LE(4 * index)) : 0n
  const effective = (word(0) & EFFECTIVE) !== 0n
  const permitted = word(1) | (word(3) << 32n)
  const inheritable = word(2) | (word(4) << 32n)
  const byFlags = new Map<string, string[]>()
  for (let bit = 0; bit < 64; bit++) {
    const has = (set: bigint) => ((set >> BigInt(bit)) & 1n) === 1n
    const flags = `${effective && has(permitted) ? 'e' : ''}${has(inheritable) ? 'i' : ''}${has(permitted) ? 'p' : ''}`
    if (flags === '') continue
    byFlags.set(flags, [...(byFlags.get(flags) ?? []), `cap_${NAMES[bit] ?? bit}`])
  }
  return [...byFlags].map(([flags, names]) => `${names.join(',')}=${flags}`).join(' ')
}
