import type { AuditedClone } from './on-clone.ts'

/**
 * What a machine does once in its life goes on after the first login: an RSA host key is made in the background, the
 * first AIDE database is begun minutes later by a timer. That is not waited for but started now.
 */
const SETTLE = `
cloud-init status --wait >/dev/null
systemctl is-system-running --wait >/dev/null
for timer in $(systemctl list-unit-files --no-legend --plain "imagebuild-*.timer" | cut -d " " -f 1); do
  systemctl start "\${timer%.timer}.service"
done
while systemctl list-units --no-legend --plain --state=running,start "imagebuild-*.service" | grep -q .; do
  sleep 2
done
`

/** Until the clone is as it will be from now on. */
export async function settle(clone: AuditedClone): Promise<void> {
  await clone.run(`sudo sh -c '${SETTLE}'`)
}
