import { stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * A file in the lab's folder whose time changes as long as a process works on the lab, also while that asks it nothing:
 * bootstrapping a system takes minutes. The time itself means nothing, since clocks may differ.
 */
const file = (dir: string): string => join(dir, 'needed')

/** By the lab, when it begins: whoever works on it does not make the file again in a folder that is gone. */
export async function beginNeeds(dir: string): Promise<void> {
  await writeFile(file(dir), '')
}

/** By a process that works on the lab, every second or so. */
export async function needLab(dir: string): Promise<void> {
  const now = new Date()
  await utimes(file(dir), now, now)
}

/** Another number than before: a process has needed the lab in between. */
export async function latestNeed(dir: string): Promise<number | undefined> {
  return (await stat(file(dir)).catch(() => undefined))?.mtimeMs
}
