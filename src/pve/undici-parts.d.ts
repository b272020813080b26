/**
 * Of undici the parts that one request needs. Its index also loads fetch, WebSocket, caches and mocks, which takes twice
 * as long as these, and everybody waits for it (npm run bench resolve).
 */
declare module 'undici/lib/dispatcher/agent.js' {
  import { Agent } from 'undici'
  export default Agent
}

declare module 'undici/lib/core/connect.js' {
  import { buildConnector } from 'undici'
  export default buildConnector
}

/** What the index makes the method `request` of. */
declare module 'undici/lib/api/api-request.js' {
  import type { Dispatcher } from 'undici'
  export default function request(
    this: Dispatcher,
    options: Dispatcher.RequestOptions,
  ): Promise<Dispatcher.ResponseData>
}
