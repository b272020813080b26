import type { HardeningItem } from '../item.ts'
import { ACCOUNTS } from './accounts.ts'
import { APPARMOR } from './apparmor.ts'
import { AUDIT_RULES } from './audit-rules.ts'
import { CORE_DUMPS } from './core-dumps.ts'
import { FAILLOCK } from './faillock.ts'
import { FILES } from './files.ts'
import { FIREWALL } from './firewall.ts'
import { INTEGRITY } from './integrity.ts'
import { KERNEL } from './kernel.ts'
import { LOGGING } from './logging.ts'
import { MODULES } from './modules.ts'
import { MOUNTS } from './mounts.ts'
import { PASSWORD_QUALITY } from './password-quality.ts'
import { PASSWORDS } from './passwords.ts'
import { SERVICES } from './services.ts'
import { SESSIONS } from './sessions.ts'
import { SSHD } from './sshd.ts'
import { SUDO } from './sudo.ts'
import { TIME } from './time.ts'
import { UPDATES } from './updates.ts'

/** All items; within an area they are applied in this order. */
export const ITEMS: readonly HardeningItem[] = [
  ...PASSWORD_QUALITY,
  ...FAILLOCK,
  ...PASSWORDS,
  ...SESSIONS,
  ...ACCOUNTS,
  ...SUDO,
  ...KERNEL,
  ...MODULES,
  ...CORE_DUMPS,
  ...MOUNTS,
  ...APPARMOR,
  ...FILES,
  ...SERVICES,
  ...LOGGING,
  ...AUDIT_RULES,
  ...FIREWALL,
  ...UPDATES,
  ...TIME,
  ...INTEGRITY,
  ...SSHD,
]
