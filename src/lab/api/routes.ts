import type { Release } from '../release.ts'
import { ACCESS_ROUTES } from './access-routes.ts'
import { APPLIANCE_ROUTES } from './appliances.ts'
import { CLUSTER_ROUTES } from './cluster-routes.ts'
import { CONSOLE_ROUTES } from './console.ts'
import { CONTAINER_ROUTES } from './containers/routes.ts'
import { BACKUP_ROUTES } from './containers/vzdump.ts'
import { agentRoutes } from './guests/agent-routes.ts'
import { GUEST_ROUTES } from './guests/routes.ts'
import { NODE_ROUTES } from './node-routes.ts'
import type { Rules } from './parameters.ts'
import { POOL_ROUTES } from './pool-routes.ts'
import { ROLE_ROUTES } from './role-routes.ts'
import type { Route } from './router.ts'
import { STORAGE_ROUTES } from './storage-routes.ts'
import { TASK_ROUTES } from './task-routes.ts'

/** The whole API of a release. */
export function routes(pve: Release): Route[] {
  const all = [
    ...CLUSTER_ROUTES,
    ...ACCESS_ROUTES,
    ...ROLE_ROUTES,
    ...POOL_ROUTES,
    ...NODE_ROUTES,
    ...TASK_ROUTES,
    ...STORAGE_ROUTES,
    ...GUEST_ROUTES,
    ...agentRoutes(pve),
    ...CONSOLE_ROUTES,
    ...CONTAINER_ROUTES,
    ...BACKUP_ROUTES,
    ...APPLIANCE_ROUTES,
  ]
  return all.map((route) => ({ ...route, parameters: without(route.parameters, pve.lacks[route.path]) }))
}

function without(rules: Rules, names: readonly string[] = []): Rules {
  return Object.fromEntries(Object.entries(rules).filter(([name]) => !names.includes(name)))
}
