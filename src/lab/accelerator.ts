import { constants } from 'node:fs'
import { access, readFile } from 'node:fs/promises'

export type Accelerator = 'kvm' | 'tcg'

/**
 * KVM only where it truly works: on some paravirtual hosts /dev/kvm opens and answers, but guests hang, and the
 * CPU then lacks the flags vmx and svm. IMAGEBUILD_LAB_ACCEL=kvm|tcg decides otherwise.
 */
export async function chooseAccelerator(env: NodeJS.ProcessEnv = process.env): Promise<Accelerator> {
  const asked = env.IMAGEBUILD_LAB_ACCEL
  if (asked === 'kvm' || asked === 'tcg') return asked
  const opens = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  )
  return opens && hasVirtualization(await readFile('/proc/cpuinfo', 'utf8')) ? 'kvm' : 'tcg'
}

export function hasVirtualization(cpuinfo: string): boolean {
  return /^flags\s*:.*\b(vmx|svm)\b/m.test(cpuinfo)
}
