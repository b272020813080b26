import { execa } from 'execa'
import type { Examiner } from '../../../src/build/verify/examiner.ts'

/** The machine that the tests run on, asked as clones are. */
export const THIS_MACHINE: Examiner = {
  run: async (script, { env = {}, seconds }) => {
    const { exitCode, stdout, stderr } = await execa('/bin/sh', ['-c', script], {
      env: { ...env },
      reject: false,
      stripFinalNewline: false,
      timeout: seconds * 1000,
    })
    return { exitCode: exitCode ?? -1, stdout, stderr }
  },
}
