import type { Access } from '../src/build/access.ts'
import type { VmSpec } from '../src/definition/spec.ts'
import { type CloudConfig, cloudConfig, toYaml } from '../src/seed/cloud-config.ts'
import { iso9660 } from '../src/seed/iso9660.ts'

/**
 * The seed as one writes it by hand: the account that logs in, and the definition's own cloud-config. Nothing in it
 * concerns host keys, since no client checks them: the guest makes its own, of the one type that is needed. The network is
 * cloud-init's default, DHCP.
 * @param scripts run at the end, as root
 */
export function benchSeed(image: VmSpec, { user, userKey }: Access, scripts: readonly string[] = []): Buffer {
  const config = cloudConfig().user(
    { name: user, authorizedKeys: [userKey.publicKey], sudo: true, shell: '/bin/sh' },
    'bench',
  )
  for (const fragment of image.cloudInit) config.merge(fragment.config as CloudConfig, fragment.name)
  config.merge({ ssh_genkeytypes: ['ed25519'] }, 'bench')
  if (scripts.length > 0) config.merge({ runcmd: scripts.map((script) => ['sh', '-c', script]) }, 'bench')
  return iso9660(
    'cidata',
    [
      { name: 'user-data', content: config.render() },
      { name: 'meta-data', content: toYaml({ 'instance-id': 'bench', 'local-hostname': image.name }) },
    ],
    new Date(0),
  )
}
