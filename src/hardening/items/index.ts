import type { HardeningItem } from '../item.ts'

/** All items; within an area they are applied in this order. */
export const ITEMS: readonly HardeningItem[] = []
