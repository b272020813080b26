import type { ImageSpec } from '../definition/spec.ts'
import type { PveVersion } from '../pve/client.ts'
import { agentPrivilege, type Need } from '../pve/permissions.ts'
import type { Place } from '../pve/place.ts'

/**
 * All that a build will ask of Proxmox, so that a token that may not is told everything at once, before anything
 * is uploaded. Checked against what a real Proxmox VE 8.4 demanded of a token call by call.
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
        'VM.Config.CDROM',
        'VM.Config.CPU',
        'VM.Config.Cloudinit',
        'VM.Config.Disk',
        'VM.Config.HWType',
        'VM.Config.Memory',
        'VM.Config.Network',
        'VM.Config.Options',
        'VM.PowerMgmt',
        // By DHCP, only the guest agent can say which address the guest got.
        ...(place.addresses === undefined ? [agentPrivilege(version, 'audit')] : []),
      ],
      why: 'create, run and convert the guest',
    },
    {
      path: `/storage/${place.storages.disks}`,
      privileges: ['Datastore.AllocateSpace', ['Datastore.Audit', 'Datastore.AllocateSpace']],
      why: 'hold the guest’s disks',
    },
    {
      path: `/storage/${place.storages.images}`,
      // Allocate: a seed that was uploaded must also be deleted again, and Proxmox asks more for that.
      privileges: ['Datastore.AllocateTemplate', 'Datastore.AllocateSpace', 'Datastore.Allocate'],
      why: 'upload the source image and the seed, and delete the seed',
    },
    {
      path: place.vlan === undefined ? bridge : [`${bridge}/${place.vlan}`, bridge],
      privileges: ['SDN.Use'],
      why: 'attach the guest to the bridge',
    },
  ]
  if (image.source.kind === 'image')
    needs.push({ path: guest, privileges: ['VM.Clone'], why: 'start from the parent’s template' })
  if (place.pool !== undefined) {
    needs.push({
      path: `/pool/${place.pool}`,
      privileges: ['Pool.Allocate'],
      why: 'put the guest into the pool',
    })
  }
  return needs
}
