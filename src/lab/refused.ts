import { ImagebuildError } from '../core/errors.ts'

/** A port that the kernel does not give, in words; anything else as it is. */
export function listenRefused(thrown: unknown, host: string, port: number): unknown {
  const { code } = (thrown ?? {}) as NodeJS.ErrnoException
  if (code === 'EADDRINUSE') {
    return new ImagebuildError({
      code: 'busy',
      what: `the lab does not start: port ${port} of ${host} is taken`,
      why: 'another program listens there',
      next: `see which: ss -ltnp 'sport = :${port}'; or take another port, or none: without --port the lab takes any free one`,
      cause: thrown,
    })
  }
  if (code === 'EACCES') {
    return new ImagebuildError({
      code: 'prerequisite_missing',
      what: `the lab does not start: it may not listen on port ${port} of ${host}`,
      why: 'the kernel gives privileged ports to processes with CAP_NET_BIND_SERVICE only (sysctl net.ipv4.ip_unprivileged_port_start says which ports these are)',
      next: 'take a port from 1024 on, or none: without --port the lab takes any free one',
      cause: thrown,
    })
  }
  if (code === 'EADDRNOTAVAIL') {
    return new ImagebuildError({
      code: 'definition_invalid',
      what: `the lab does not start: this machine has no address ${host}`,
      next: 'correct `host` in config.json in the lab’s folder',
      cause: thrown,
    })
  }
  return thrown
}
