import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Duplex, type Readable } from 'node:stream'
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
    // Nobody writes to the last one, which every process of the console holds open: it ends with the last of them.
    stdio: ['pipe', 'pipe', 'ignore', 'pipe'],
  })
  ;(child.stdio[3] as Readable).resume()
  const stream = Duplex.from({ writable: child.stdin, readable: child.stdout })
  stream.on('error', () => stream.destroy())
  child.once('error', (error) => stream.destroy(error))
  child.once('exit', () => stream.destroy())
  // Asked to end, script(1) takes two seconds; killed, it takes the terminal along, and lxc-console ends with that.
  stream.once('close', () => child.kill('SIGKILL'))
  // Rejected where there is no script(1): then nothing has to end.
  return { stream, ended: once(child, 'close').catch(() => {}) }
}
