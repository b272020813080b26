import { readFileSync } from 'node:fs'
import type { Duration } from './durations.ts'

/** `node test/slowest.ts FILE`: the slowest twenty tests of all runs that wrote to the file. */
const COUNT = 20

const [, , file = ''] = process.argv
const all = readFileSync(file, 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Duration)
const slowest = all.sort((a, b) => b.duration - a.duration).slice(0, COUNT)
for (const { project, file, name, duration } of slowest) {
  const seconds = (duration / 1000).toFixed(1).padStart(7)
  process.stdout.write(`${seconds} s  ${project.padEnd(11)}  ${file} > ${name}\n`)
}
