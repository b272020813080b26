import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Duplex } from 'node:stream'
import { lxc } from './lxc-command.ts'

export interface ContainerConsole {
  /** what the console prints, and what is typed; destroyed, its processes are told to end */
  stream: Duplex
  /** resolves when its processes have ended */
  ended: Promise<unknown>
}

/**
 * The container's console, live. lxc-console wants a terminal of its own, which script(1) gives it; `-1` means that
 * no key ends it.
 */
export function openConsole(lxcPath: string, name: string): ContainerConsole {
  const command = lxc('lxc-console', '-q', '-P', lxcPath, '-n', name, '-t', '0', '-e', '-1')
  const child = spawn('script', ['-q', '-e', '-f', '-c', command.join(' '), '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const stream = Duplex.from({ writable: child.stdin, readable: child.stdout })
  stream.on('error', () => stream.destroy())
  child.once('error', (error) => stream.destroy(error))
  child.once('exit', () => stream.destroy())
  stream.once('close', () => child.kill())
  // Rejected where there is no script(1): then nothing has to end.
  return { stream, ended: once(child, 'exit').catch(() => {}) }
}
