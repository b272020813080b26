#!/usr/bin/env bash
# The project's own tests, as any CI runs them: the README's test command, then builds with real guests.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s ==\n' "$*"; }

say "npm cit: locked dependencies, lint, types, unit, architecture and contract tests"
npm cit

say "npm run test:e2e: real builds on the lab (QEMU)"
# Should something hang in spite of all deadlines, that is said here, and not by whoever waits for this script.
timeout --kill-after=60 "$((65 * 60))" npm run test:e2e

say "npm run test:campaign -- --sample: kills, faults and runners at once, as far as there is time"
timeout --kill-after=60 "$((60 * 60))" npm run test:campaign -- --sample

say "all passed"
printf '%s\n' \
  'left to npm run test:campaign: 20 rounds of runners, where three are done here; faults and kills at every call, where some are; ten boots by DHCP, where two are done; a spoiled virtual machine verified' \
  'left to npm run audit: lynis, OpenSCAP, the profile cis-l1, boot times with and without hardening'
