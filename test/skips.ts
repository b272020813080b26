import type { Reporter, TestModule } from 'vitest/node'

/** Says at the end of a run what it has skipped, and why. A contract test that does not say why has failed. */
export default class Skips implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const reasons = new Map<string, string[]>()
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        const { note } = test.result() as { note?: string }
        if (note === undefined && module.project.name !== 'contract') continue
        if (note === undefined) process.exitCode = 1
        const why = note ?? 'NO REASON GIVEN'
        reasons.set(why, [...(reasons.get(why) ?? []), test.name])
      }
    }
    if (reasons.size === 0) return
    const all = [...reasons.values()].flat().length
    process.stdout.write(`\n Skipped ${all}:\n`)
    for (const [why, tests] of reasons) {
      process.stdout.write(`  ${why} (${tests.length}):\n${tests.map((name) => `    ${name}\n`).join('')}`)
    }
  }
}
