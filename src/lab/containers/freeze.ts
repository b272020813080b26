import { execa } from 'execa'
import { MOUNT_POINT } from './mounted-root.ts'

/**
 * Keeps a running container's file system still, with all that was written on its volume, during `work`. It thaws
 * with the end of a process's input, so also when the daemon is killed.
 */
export async function whileFrozen<T>(monitor: number, work: () => Promise<T>): Promise<T> {
  const script = `fsfreeze -f ${MOUNT_POINT} && cat; fsfreeze -u ${MOUNT_POINT}`
  const holder = execa('nsenter', [`--mount=/proc/${monitor}/ns/mnt`, '/bin/sh', '-c', script], {
    buffer: { stdout: false, stderr: true },
    reject: false,
  })
  holder.stdin.on('error', () => undefined)
  holder.stdin.write('\n')
  const frozen = new Promise<true>((resolve) => holder.stdout.once('data', () => resolve(true)))
  try {
    if ((await Promise.race([frozen, holder])) !== true)
      throw new Error((await holder).stderr || 'fsfreeze failed')
    return await work()
  } finally {
    holder.stdin.end()
    await holder
  }
}
