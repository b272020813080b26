#!/usr/bin/env bash
# The project's own tests, as any CI runs them: the README's test command, then all others. Those go in two lanes at once,
# each with a lab of its own: emulated machines keep one processor busy, containers mostly wait.
set -euo pipefail
cd "$(dirname "$0")/.."

# End-to-end tests with emulated machines; all others are in the other lane.
machines=(bootstrap build dhcp dhcp-clients lab)

IMAGEBUILD_TEST_DURATIONS=$(mktemp)
export IMAGEBUILD_TEST_DURATIONS

say() { printf '\n== %s ==\n' "$*"; }

# Runs one of the project's TypeScript files by the project's Node.
typescript() (root=$PWD && . src/cli/node.sh && node "$@")

# Also where something failed: what was slow then says more than all that passed.
at_the_end() {
  if [ -s "$IMAGEBUILD_TEST_DURATIONS" ]; then
    say "the slowest tests"
    typescript test/slowest.ts "$IMAGEBUILD_TEST_DURATIONS" || true
  fi
  rm -f "$IMAGEBUILD_TEST_DURATIONS"
}
trap at_the_end EXIT

# Should something hang in spite of all deadlines, that is said here, and not by whoever waits for this script.
limited() { timeout --kill-after=60 "$((60 * 60))" "$@"; }

machine_lane() {
  limited npm run test:e2e -- "${machines[@]/%/.test.ts}"
  limited npm run test:campaign -- --sample kill-machine faults
}

container_lane() {
  limited npm run test:integration
  limited npm run test:contract
  # The lab is this checkout's, as that of the other lane is.
  export IMAGEBUILD_TEST_LAB_DIR=${TMPDIR:-/tmp}/imagebuild-e2e-containers-$(printf %s "$PWD" | sha256sum | cut -c 1-8)
  limited npm run test:e2e -- $(printf -- '--exclude test/e2e/%s.test.ts ' "${machines[@]}")
  limited npm run test:campaign -- --sample runners clocks pauses busy kill
}

# Each line says which lane it is of. The lane is a shell of its own, so that `set -e` holds in it.
lane() {
  local name=$1
  (
    trap - EXIT
    set -euo pipefail
    "${name}_lane" 2>&1 | sed --unbuffered "s/^/[${name}s] /"
    printf '[%ss] passed after %d min\n' "$name" "$((SECONDS / 60))"
  ) &
}

say "npm cit: locked dependencies, lint, types, unit and architecture tests"
npm cit

say "Debian's packages that the other tests need"
typescript test/prerequisites.ts e2e

say "npm run test:integration, test:contract, test:e2e: real sshd, QEMU and LXC, the Proxmox contract, real builds on the lab; npm run test:campaign -- --sample: kills, faults, pauses, wrong clocks, runners at once"
lane machine
first=$!
lane container
second=$!
failed=0
wait "$first" || failed=1
wait "$second" || failed=1
[ "$failed" = 0 ] || { say "FAILED: see above"; exit 1; }

say "all passed, after $((SECONDS / 60)) min"
printf '%s\n' \
  'left to npm run test:campaign: 20 rounds of runners, and of runners with wrong clocks, where three are done here; pauses of ten minutes, where some seconds are; ten busy builds of containers, where three are, and two of virtual machines; faults at every call, and kills at every point, where some are (of what promotes, swaps and prunes: after each call), of containers and of a virtual machine; a prune that finishes a swap, killed at its 28 points; ten boots by DHCP, where two are done; a spoiled virtual machine verified' \
  'left to npm run audit: lynis, OpenSCAP, the profile cis-l1, boot times with and without hardening'
