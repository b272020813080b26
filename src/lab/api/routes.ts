import { ACCESS_ROUTES } from './access-routes.ts'
import { CLUSTER_ROUTES } from './cluster-routes.ts'
import { CONSOLE_ROUTES } from './console.ts'
import { GUEST_ROUTES } from './guests/routes.ts'
import { NODE_ROUTES } from './node-routes.ts'
import { POOL_ROUTES } from './pool-routes.ts'
import { ROLE_ROUTES } from './role-routes.ts'
import { get, type Route } from './router.ts'
import { STORAGE_ROUTES } from './storage-routes.ts'
import { TASK_ROUTES } from './task-routes.ts'

/** Containers have their place here; the lab has none yet, which an empty list says truthfully. */
const CONTAINER_ROUTES: readonly Route[] = [get('/nodes/{node}/lxc', 'all', {}, () => [])]

/** The whole API. */
export const ROUTES: readonly Route[] = [
  ...CLUSTER_ROUTES,
  ...ACCESS_ROUTES,
  ...ROLE_ROUTES,
  ...POOL_ROUTES,
  ...NODE_ROUTES,
  ...TASK_ROUTES,
  ...STORAGE_ROUTES,
  ...GUEST_ROUTES,
  ...CONSOLE_ROUTES,
  ...CONTAINER_ROUTES,
]
