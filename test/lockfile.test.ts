import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

/**
 * npm skips an optional package whose `engines` do not fit the Node that runs npm, which need not be the Node that
 * runs us: with Debian's Node 18, the native parts of the test runner would be missing. Without `engines` in the
 * lock file npm looks at operating system and processor only. After `npm install`, take them out again with:
 *
 *   node -e 'const f="package-lock.json",l=require("./"+f);for(const p of Object.values(l.packages))if(p.optional)delete p.engines;require("fs").writeFileSync(f,JSON.stringify(l,null,2)+"\n")'
 */
test('no optional package in the lock file asks for a Node of its own', () => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, { optional?: boolean; engines?: unknown }>
  }
  const asking = Object.entries(packages).filter(([, entry]) => entry.optional && entry.engines !== undefined)
  expect(asking.map(([path]) => path)).toEqual([])
})
