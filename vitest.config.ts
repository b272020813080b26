import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** In a CI a target must be named: those tests that are about it say so themselves. */
const ENVIRONMENT = { CI: '' }

/** What is waited for comes at some time: only a test's own limit, below, ends the waiting. */
const EXPECT = { poll: { timeout: 1_200_000 } }

const INTEGRATION = 'test/**/*.integration.test.ts'

/** Most of the time is waiting, so two at least, although vitest leaves one processor free. */
const maxWorkers = Math.max(2, availableParallelism() - 1)

/**
 * unit         quick, touches nothing but temporary files and loopback: `npm test` alone
 * integration  real LXC, QEMU, sshd, apt and kernel, without a build: needs root; such a file is called
 *              `*.integration.test.ts` and lies beside the unit tests of the same code
 * contract     the Proxmox contract, against the lab's API (and a real Proxmox, where one is given)
 * e2e          real builds with real guests: needs root, minutes
 * campaign     more of them, too slow for each commit
 */
export default defineConfig({
  test: {
    reporters: ['default', 'test/skips.ts', 'test/durations.ts'],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          env: ENVIRONMENT,
          expect: EXPECT,
          exclude: [INTEGRATION, 'test/e2e/**', 'test/contract/**', 'test/campaign/**'],
          // A process for each file would cost as much processor time as the tests themselves.
          isolate: false,
          setupFiles: ['test/usual-modes.ts', 'test/fresh-modules.ts'],
          // Of what is tested here, much is how long something waits.
          maxWorkers: 2 * maxWorkers + 1,
          // Nothing takes this long but on a machine that is busy with other things.
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'integration',
          include: [INTEGRATION],
          env: ENVIRONMENT,
          expect: EXPECT,
          setupFiles: 'test/usual-modes.ts',
          maxWorkers,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'contract',
          include: ['test/contract/**/*.test.ts'],
          env: ENVIRONMENT,
          expect: EXPECT,
          setupFiles: 'test/usual-modes.ts',
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
          expect: EXPECT,
          globalSetup: 'test/e2e/setup.ts',
          setupFiles: 'test/usual-modes.ts',
          testTimeout: 1_200_000,
          hookTimeout: 1_200_000,
          fileParallelism: false,
        },
      })),
    ],
  },
})
