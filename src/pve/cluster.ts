import type { ClusterGuest } from './answers.ts'
import type { PveConnection } from './client.ts'
import { Engine, FIRST_REQUEST } from './engine.ts'
import { asClusterRows, type ClusterRow } from './guest-ref.ts'

/**
 * All templates of the cluster, by one request in all: without asking first who answers there, and without loading what
 * only other requests need.
 * @throws PveError, as `connect` would
 */
export async function askTemplates(connection: PveConnection): Promise<ClusterRow[]> {
  await using engine = new Engine(connection)
  const { signal } = connection
  const { data } = await engine.request(
    'GET',
    '/cluster/resources',
    { type: 'vm' },
    { signal, ...FIRST_REQUEST },
  )
  // There may be thousands of others. One that has just become a template may not be called one yet.
  const rows = data as ClusterGuest[]
  return asClusterRows(rows.filter(({ template, tags }) => template || tags?.includes('ib-')))
}
