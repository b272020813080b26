import { vi } from 'vitest'
import { runProgram } from '../../src/cli/program.ts'

/** Runs one command line as `main` does; what it wrote and how it ended. */
export async function cli(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ['', '']
  const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += String(text)
    return true
  })
  const err = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text)
    return true
  })
  try {
    const code = await runProgram(argv, '1.2.3')
    return { code, stdout, stderr }
  } finally {
    process.exitCode = undefined
    out.mockRestore()
    err.mockRestore()
  }
}
