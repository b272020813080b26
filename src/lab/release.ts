/**
 * The releases of Proxmox VE that a lab plays, and all in which they differ: whoever behaves differently asks its
 * release, and nobody compares numbers. Taken from the code of pve-manager 8.4.21 and 9.2.11, and seen there.
 */

export const MAJORS = [8, 9] as const
export type Major = (typeof MAJORS)[number]
export const DEFAULT_MAJOR: Major = 9

/** What a call of the guest agent does, as far as privileges tell such calls apart. */
export type AgentUse =
  | 'ask'
  | 'ask about freezing'
  | 'work on file systems'
  | 'read files'
  | 'write files'
  | 'power'
  | 'anything'
  | 'anything by name'

/** What a command of QEMU's monitor takes on `/`, beside `monitor.guest`; `unlisted`: root@pam too, in other words. */
export type MonitorNeed = 'nothing' | 'Sys.Modify' | 'root@pam' | 'unlisted'

export interface Release {
  /** the answer of /version */
  readonly version: { readonly version: string; readonly release: string; readonly repoid: string }
  /** of the QEMU that a guest's `meta` says it was made with */
  readonly qemu: string
  /** parameters that the other release knows, by the path of their calls */
  readonly lacks: Readonly<Record<string, readonly string[]>>
  /** privileges on guests that the other release does not have, by the built-in roles that have them */
  readonly guestPrivileges: Readonly<Record<'admin' | 'user' | 'audit', readonly string[]>>
  /** one of these on the guest */
  readonly agent: Readonly<Record<AgentUse, readonly string[]>>
  readonly monitor: {
    /** one of these on the guest */
    readonly guest: readonly string[]
    need(command: string): MonitorNeed
  }
  /** tags of a new VM are judged and put in order as those of a container are; else they stay as given */
  readonly tagsOfNewMachines: boolean
  /** `start=1` takes VM.PowerMgmt when a VM is created */
  readonly startTakesPower: boolean
  /** a change of a locked VM is refused at once; else only when the lock's holder has been waited for */
  readonly looksBeforeWaiting: boolean
  /** a VM's start fails with the bridge that there is not; else with QEMU's end */
  readonly namesMissingBridge: boolean
  /** the log of a clone's task begins with the VMID of the clone */
  readonly clonesAreNamed: boolean
  /** of a container that runs */
  readonly noFullClone: string
  /** who asks for nothing gets an unprivileged container, and for a privileged one takes Sys.Modify on `/` */
  readonly unprivilegedByDefault: boolean
  /** tasks of a container whose systemd is newer than this warn where `nesting` is off */
  readonly systemdWithoutNesting: number
  /** names of archives for containers */
  readonly archives: RegExp
}

const MONITOR_8 = ['VM.Monitor']
const UNRESTRICTED = 'VM.GuestAgent.Unrestricted'

const EIGHT: Release = {
  version: { version: '8.4.21', release: '8.4', repoid: 'imagebuild' },
  qemu: '9.2.0',
  lacks: {
    '/nodes/{node}/capabilities/qemu/cpu': ['arch'],
    '/nodes/{node}/capabilities/qemu/machines': ['arch'],
    '/nodes/{node}/lxc': ['entrypoint', 'env', 'ha-managed'],
    '/nodes/{node}/lxc/{vmid}/config': ['entrypoint', 'env'],
    '/nodes/{node}/qemu': ['allow-ksm', 'ha-managed', 'intel-tdx'],
    '/nodes/{node}/qemu/{vmid}/agent/file-read': ['count', 'decode', 'offset'],
    '/nodes/{node}/qemu/{vmid}/config': ['allow-ksm', 'intel-tdx'],
    '/nodes/{node}/qemu/{vmid}/status/start': ['with-conntrack-state'],
    '/nodes/{node}/startall': ['max-workers'],
    '/nodes/{node}/stopall': ['max-workers'],
  },
  guestPrivileges: { admin: MONITOR_8, user: [], audit: [] },
  agent: {
    ask: MONITOR_8,
    'ask about freezing': MONITOR_8,
    'work on file systems': MONITOR_8,
    'read files': MONITOR_8,
    'write files': MONITOR_8,
    power: MONITOR_8,
    anything: MONITOR_8,
    'anything by name': MONITOR_8,
  },
  monitor: {
    guest: MONITOR_8,
    need: (command) => (/^\s*(?:info(?:\s|$)|help\s*$)/.test(command) ? 'nothing' : 'Sys.Modify'),
  },
  tagsOfNewMachines: false,
  startTakesPower: false,
  looksBeforeWaiting: false,
  namesMissingBridge: false,
  clonesAreNamed: false,
  noFullClone: 'Cannot do full clones on a running container without snapshots',
  unprivilegedByDefault: false,
  systemdWithoutNesting: Number.POSITIVE_INFINITY,
  archives: /[^/]+\.tar\.(?:gz|xz|zst|bz2)$/i,
}

const NINE: Release = {
  version: { version: '9.2.11', release: '9.2', repoid: 'imagebuild' },
  qemu: '11.0.0',
  lacks: { '/nodes/{node}/vzdump': ['maxfiles', 'notification-policy', 'notification-target'] },
  guestPrivileges: {
    admin: [UNRESTRICTED, 'VM.Replicate'],
    user: ['VM.GuestAgent.FileRead', 'VM.GuestAgent.FileSystemMgmt', 'VM.GuestAgent.FileWrite'],
    audit: ['VM.GuestAgent.Audit'],
  },
  agent: {
    ask: ['VM.GuestAgent.Audit', UNRESTRICTED],
    'ask about freezing': ['VM.GuestAgent.Audit', 'VM.GuestAgent.FileSystemMgmt', UNRESTRICTED],
    'work on file systems': ['VM.GuestAgent.FileSystemMgmt', UNRESTRICTED],
    'read files': ['VM.GuestAgent.FileRead', UNRESTRICTED],
    'write files': ['VM.GuestAgent.FileWrite', UNRESTRICTED],
    power: ['VM.PowerMgmt', UNRESTRICTED],
    anything: [UNRESTRICTED],
    // Proxmox names it twice where it refuses.
    'anything by name': [UNRESTRICTED, UNRESTRICTED],
  },
  monitor: { guest: ['Sys.Audit', 'Sys.Modify'], need: needOnNine },
  tagsOfNewMachines: true,
  startTakesPower: true,
  looksBeforeWaiting: true,
  namesMissingBridge: true,
  clonesAreNamed: true,
  noFullClone: 'Full clone of a running container is only possible from a snapshot',
  unprivilegedByDefault: true,
  systemdWithoutNesting: 241,
  archives: /[^/]+\.tar(?:\.(?:gz|xz|zst|bz2))?$/i,
}

const names = (lines: readonly string[]) => new Set(lines.flatMap((line) => line.split(' ')))

/** Monitor commands that do not lead out of the guest. */
const MODIFYING = names([
  'announce_self backup_cancel balloon block_job_cancel block_job_complete block_job_pause block_job_resume',
  'block_job_set_speed block_resize block_set_io_throttle boot_set c calc_dirty_rate cancel_vcpu_dirty_limit',
  'chardev-send-break closefd commit cont cpu delvm eject exit_preconfig expire_password getfd gpa2hpa gpa2hva',
  'gva2gpa i loadvm log migrate_cancel migrate_continue migrate_pause migrate_set_capability',
  'migrate_set_parameter migrate_start_postcopy mouse_button mouse_move mouse_set one-insn-per-tb p print q',
  'qemu-io qom-get qom-list quit replay_break replay_delete_break replay_seek ringbuf_read ringbuf_write s',
  'savevm sendkey set_link set_password set_vcpu_dirty_limit snapshot_blkdev_internal',
  'snapshot_delete_blkdev_internal stop stopcapture sum sync-profile system_powerdown system_reset system_wakeup',
  'trace-event x x_colo_lost_heartbeat xp',
])

/** Monitor commands that do. */
const LEADING_OUT = names([
  'backup block_stream change chardev-add chardev-change chardev-remove client_migrate_info device_add',
  'device_del drive_add drive_backup drive_del drive_mirror dump-guest-memory dumpdtb gdbserver hostfwd_add',
  'hostfwd_remove logfile mce memsave migrate migrate_incoming migrate_recover nbd_server_add',
  'nbd_server_remove nbd_server_start nbd_server_stop netdev_add netdev_del nmi o object_add object_del',
  'pcie_aer_inject_error pmemsave qom-set savevm-end savevm-start screendump snapshot_blkdev watchdog_action',
  'wavcapture xen-event-inject xen-event-list',
])

function needOnNine(command: string): MonitorNeed {
  const name = command.trim().split(/\s/, 1)[0] ?? ''
  if (['help', '?', 'info'].includes(name)) return 'nothing'
  if (MODIFYING.has(name)) return 'Sys.Modify'
  return LEADING_OUT.has(name) ? 'root@pam' : 'unlisted'
}

export const RELEASES: Readonly<Record<Major, Release>> = { 8: EIGHT, 9: NINE }
