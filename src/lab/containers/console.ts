import { spawn } from 'node:child_process'
import { Duplex } from 'node:stream'
import { lxc } from './lxc-command.ts'

/**
 * The container's console, live. lxc-console wants a terminal of its own, which script(1) gives it; `-1` means that
 * no key ends it.
 */
export function openConsole(lxcPath: string, name: string): Duplex {
  const command = lxc('lxc-console', '-q', '-P', lxcPath, '-n', name, '-t', '0', '-e', '-1')
  const child = spawn('script', ['-q', '-e', '-f', '-c', command.join(' '), '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const duplex = Duplex.from({ writable: child.stdin, readable: child.stdout })
  duplex.on('error', () => duplex.destroy())
  child.once('error', (error) => duplex.destroy(error))
  child.once('exit', () => duplex.destroy())
  duplex.once('close', () => child.kill())
  return duplex
}
