import { rewriteArchive } from '../src/archive/rewrite.ts'

/** The rewriter as a process of its own, to be measured: `node rewrite-archive.ts <input> <output>` prints its peak memory. */
const [input, output] = process.argv.slice(2) as [string, string]
await rewriteArchive({ input, output, signal: new AbortController().signal })
// Its own peak, bytes: children do not count.
process.stdout.write(String(process.resourceUsage().maxRSS * 1024))
