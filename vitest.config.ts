import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** In a CI a target must be named: those tests that are about it say so themselves. */
const ENVIRONMENT = { CI: '' }

/**
 * unit      quick, touches nothing but temporary files and loopback: `npm test` alone
 * contract  the Proxmox contract, against the lab's API (and a real Proxmox, where one is given)
 * e2e       real guests: needs root, minutes
 * campaign  more of them, too slow for each commit
 */
export default defineConfig({
  test: {
    reporters: ['default', 'test/skips.ts'],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          env: ENVIRONMENT,
          exclude: ['test/e2e/**', 'test/contract/**', 'test/campaign/**'],
          // Most of the time is waiting, so two at least, although vitest leaves one processor free.
          maxWorkers: Math.max(2, availableParallelism() - 1),
          // Nothing takes this long but on a machine that is busy with other things.
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'contract',
          include: ['test/contract/**/*.test.ts'],
          env: ENVIRONMENT,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          globalSetup: 'test/contract/run.ts',
        },
      },
      ...['e2e', 'campaign'].map((name) => ({
        test: {
          name,
          include: [`test/${name}/**/*.test.ts`],
          env: ENVIRONMENT,
          globalSetup: 'test/e2e/setup.ts',
          testTimeout: 1_200_000,
          hookTimeout: 1_200_000,
          fileParallelism: false,
        },
      })),
    ],
  },
})
