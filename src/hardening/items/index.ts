import type { HardeningItem } from '../item.ts'
import { ACCOUNTS } from './accounts.ts'
import { FILES } from './files.ts'
import { SERVICES } from './services.ts'
import { SSHD } from './sshd.ts'
import { SUDO } from './sudo.ts'

/** All items; within an area they are applied in this order. */
export const ITEMS: readonly HardeningItem[] = [...ACCOUNTS, ...SUDO, ...FILES, ...SERVICES, ...SSHD]
