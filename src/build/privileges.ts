import { ImagebuildError } from '../core/errors.ts'
import type { ImageSpec } from '../definition/spec.ts'
import type { Pve, PveVersion } from '../pve/client.ts'
import { agentPrivilege, type Need, type Privilege } from '../pve/permissions.ts'
import type { Place } from '../pve/place.ts'
import { checksTagsOfNewMachines } from '../pve/restricted-tags.ts'
import { featuresParameter } from './container.ts'

/**
 * All that a build will ask of Proxmox, so that a token that may not is told everything at once, before anything
 * is uploaded. Checked against what real Proxmox VE 8.4 and 9.2 demanded of a token call by call. README.md has the same for
 * people, and a test compares the two.
 */
export function privilegesNeeded(image: ImageSpec, place: Place, version: PveVersion): Need[] {
  const guest = place.pool === undefined ? '/vms' : (['/vms', `/pool/${place.pool}`] as const)
  const bridge = `/sdn/zones/localnetwork/${place.bridge}`
  const needs: Need[] = [
    {
      path: guest,
      privileges: [
        'VM.Allocate',
        'VM.Audit',
        'VM.Config.CPU',
        'VM.Config.Disk',
        'VM.Config.Memory',
        'VM.Config.Network',
        'VM.PowerMgmt',
        ...(image.kind === 'vm' ? machinePrivileges(place, version) : []),
      ],
      why: 'create, run and convert the guest',
    },
    {
      // A new guest's tags are checked before it is in the pool.
      path: image.kind === 'lxc' || checksTagsOfNewMachines(version) ? '/vms' : guest,
      privileges: ['VM.Config.Options'],
      why: 'tag the guest as it is created',
    },
    {
      path: `/storage/${place.storages.disks}`,
      // It also shows how full the storage is: Datastore.Audit is another way to that, and to nothing else here.
      privileges: ['Datastore.AllocateSpace'],
      why: 'hold the guest’s disks',
    },
    image.kind === 'vm'
      ? {
          path: `/storage/${place.storages.images}`,
          // Allocate: a seed that was uploaded must also be deleted again, and Proxmox asks more for that.
          privileges: ['Datastore.AllocateTemplate', 'Datastore.AllocateSpace', 'Datastore.Allocate'],
          why: 'upload the source image and the seed, and delete the seed',
        }
      : {
          path: `/storage/${place.storages.archives}`,
          privileges: [
            'Datastore.AllocateTemplate',
            'Datastore.AllocateSpace',
            // An archive of a build that fails afterwards must be deleted again.
            ...(image.template.archive ? ['Datastore.Allocate'] : []),
          ],
          why: `upload the source archive${image.template.archive ? ' and the finished one' : ''}`,
        },
    {
      path: place.vlan === undefined ? bridge : [`${bridge}/${place.vlan}`, bridge],
      privileges: ['SDN.Use'],
      why: 'attach the guest to the bridge',
    },
  ]
  if (image.kind === 'vm' && image.source.kind === 'image')
    needs.push({ path: guest, privileges: ['VM.Clone'], why: 'start from the parent’s template' })
  if (image.kind === 'lxc' && !image.unprivileged && version.major >= 9) {
    needs.push({ path: '/', privileges: ['Sys.Modify'], why: 'create a privileged container' })
  }
  if (place.pool !== undefined) {
    needs.push({
      path: `/pool/${place.pool}`,
      privileges: ['Pool.Allocate'],
      why: 'put the guest into the pool',
    })
  }
  return needs
}

/** What verifying needs beyond that: clones of the finished template, and their guest agents' word. */
export function verifyPrivileges(image: ImageSpec, place: Place, version: PveVersion): Need[] {
  const guest = place.pool === undefined ? '/vms' : (['/vms', `/pool/${place.pool}`] as const)
  const clone: Need = { path: guest, privileges: ['VM.Clone'], why: 'verify clones of the template' }
  if (image.kind === 'lxc') return [clone]
  const agent = [agentPrivilege(version, 'audit'), agentPrivilege(version, 'file-read')]
  return [
    clone,
    {
      path: guest,
      // Up to Proxmox VE 8 it is one for both.
      privileges: [...new Map(agent.map((one) => [String(one), one])).values()],
      why: 'learn a clone’s host keys from its guest agent, and see whether that answers',
    },
  ]
}

/**
 * What giving a template a fixed VMID needs: copies, and the removal of what was there. Proxmox forgets the rights on a
 * guest with the guest, so rights on `/vms/9000` alone would be gone between the old one and the new one.
 */
export function swapPrivileges(place: Place): Need[] {
  const bridge = `/sdn/zones/localnetwork/${place.bridge}`
  return [
    {
      path: place.pool === undefined ? '/vms' : (['/vms', `/pool/${place.pool}`] as const),
      privileges: ['VM.Allocate', 'VM.Audit', 'VM.Clone', 'VM.Config.Network', 'VM.Config.Options'],
      why: 'replace the template at its fixed VMID by a copy of the next one',
    },
    {
      path: `/storage/${place.storages.disks}`,
      privileges: ['Datastore.AllocateSpace'],
      why: 'hold the copies’ disks',
    },
    {
      path: place.vlan === undefined ? bridge : [`${bridge}/${place.vlan}`, bridge],
      privileges: ['SDN.Use'],
      why: 'give the copies the template’s network card',
    },
    ...(place.pool === undefined
      ? []
      : [
          { path: `/pool/${place.pool}`, privileges: ['Pool.Allocate'], why: 'put the copies into the pool' },
        ]),
  ]
}

function machinePrivileges(place: Place, version: PveVersion): Privilege[] {
  return [
    'VM.Config.CDROM',
    'VM.Config.Cloudinit',
    'VM.Config.HWType',
    // By DHCP, only the guest agent can say which address the guest got.
    ...(place.addresses === undefined ? [agentPrivilege(version, 'audit')] : []),
  ]
}

/**
 * Of containers' features Proxmox gives away one, `nesting`, and that only to unprivileged containers. For all else it
 * wants root@pam in person: not even a token with all of root's rights will do.
 * @throws ImagebuildError `permission_denied`
 */
export function requireTicketForFeatures({ kind, user }: Pick<Pve, 'kind' | 'user'>, image: ImageSpec): void {
  if (image.kind !== 'lxc' || (kind === 'ticket' && user === 'root@pam')) return
  const features = featuresParameter(image)
  if (features === undefined || (image.unprivileged && features === 'nesting=1')) return
  throw new ImagebuildError({
    code: 'permission_denied',
    what: `${user} may not give a container the features ${features}`,
    where: image.where,
    why: image.unprivileged
      ? 'Proxmox lets nobody but root@pam, logged in by password, set other features than nesting'
      : 'Proxmox lets nobody but root@pam, logged in by password, set features of a privileged container',
    next: 'take them out of `features`, or give the target `username: root@pam` and a `password` instead of a token',
  })
}
