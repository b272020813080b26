import { appendFileSync } from 'node:fs'
import type { Reporter, TestCase, TestModule } from 'vitest/node'

/** The file that each run of vitest adds its tests to; without it nothing is written. */
const FILE = process.env.IMAGEBUILD_TEST_DURATIONS

export interface Duration {
  project: string
  /** relative to the project's folder */
  file: string
  name: string
  /** milliseconds, of which a busy machine makes more */
  duration: number
}

/** Writes down how long each test took, a line of JSON each, for `node test/slowest.ts`. */
export default class Durations implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    if (FILE === undefined) return
    const lines = modules.flatMap((module) => [...module.children.allTests()].flatMap(lineOf))
    // By one write: several runs may add to it at once.
    appendFileSync(FILE, lines.join(''))
  }
}

function lineOf(test: TestCase): string[] {
  const took = test.diagnostic()?.duration
  if (took === undefined) return []
  const row: Duration = {
    project: test.project.name,
    file: test.module.relativeModuleId,
    name: test.fullName,
    duration: took,
  }
  return [`${JSON.stringify(row)}\n`]
}
