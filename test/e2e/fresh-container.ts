import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { poll, withDeadline } from '../../src/core/scope.ts'
import type { SlowRouter } from './slow-router.ts'

/** A real container by LXC: with a root file system of its own over a shared one, systemd and sshd. */
export interface FreshContainer extends AsyncDisposable {
  machineId: string
  hostKey: string
}

/** LXC looks for newuidmap and dnsmasq on the PATH; it needs neither here. */
const ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }

/**
 * Boots it on the router's bridge, and waits until it listens for SSH, without sending it a single packet.
 * @param base an unpacked root file system, which stays as it is
 */
export async function bootContainer(
  router: SlowRouter,
  folder: string,
  base: string,
  { name, mac, address, gateway }: { name: string; mac: string; address: string; gateway: string },
): Promise<FreshContainer> {
  await using stack = new AsyncDisposableStack()
  const own = join(folder, name)
  const root = join(own, 'rootfs')
  for (const part of ['upper', 'work', 'rootfs']) await mkdir(join(own, part), { recursive: true })
  const layers = `lowerdir=${base},upperdir=${join(own, 'upper')},workdir=${join(own, 'work')}`
  await execa('mount', ['-t', 'overlay', 'overlay', '-o', layers, root])
  stack.defer(async () => {
    await execa('umount', [root])
    await execa('rm', ['-rf', '--one-file-system', own])
  })
  // As Proxmox writes it into a Debian container.
  const interfaces = `auto eth0\niface eth0 inet static\n\taddress ${address}\n\tgateway ${gateway}\n`
  await writeFile(join(root, 'etc/network/interfaces'), `auto lo\niface lo inet loopback\n\n${interfaces}`)
  await writeFile(join(root, 'etc/machine-id'), '')
  await writeFile(join(root, 'etc/hostname'), `${name}\n`)
  await execa('ssh-keygen', ['-A', '-f', root])

  const { card, unplug } = await router.plug(mac)
  stack.defer(unplug)
  const config = [
    'lxc.include = /usr/share/lxc/config/common.conf',
    `lxc.rootfs.path = dir:${root}`,
    `lxc.uts.name = ${name}`,
    'lxc.net.0.type = phys',
    `lxc.net.0.link = ${card}`,
    'lxc.net.0.name = eth0',
    'lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed',
    'lxc.apparmor.profile = unconfined',
  ]
  await writeFile(join(own, 'config'), `${config.join('\n')}\n`)
  // LXC is asked in the same network namespace, where its sockets are. Not by `ip netns exec`: that hides the cgroups.
  const lan = `/run/netns/${router.namespaces.lan}`
  const lxc = (command: string, ...args: string[]) =>
    execa('nsenter', [`--net=${lan}`, '--', `lxc-${command}`, '-n', name, '-P', folder, ...args], {
      env: ENV,
    })
  await lxc('start', '-d', '-L', join(own, 'console'))
  stack.defer(async () => void (await lxc('stop', '-k')))
  const pid = (await lxc('info', '-p', '-H')).stdout.trim()
  using deadline = withDeadline(undefined, 120, `booting ${name}`)
  // Its own tables say when it is there: address set, somebody listens on port 22.
  await poll(
    async () => {
      const tcp = await readFile(`/proc/${pid}/net/tcp`, 'utf8')
      const routes = await readFile(`/proc/${pid}/net/route`, 'utf8')
      const listens = /: 00000000:0016 00000000:0000 0A/.test(tcp)
      return listens && /^eth0\t00000000/m.test(routes) ? true : undefined
    },
    { signal: deadline, first: 100, max: 250 },
  ).catch(async (error) => {
    throw new Error(`${name} did not come up:\n${await readFile(join(own, 'console'), 'utf8')}`, {
      cause: error,
    })
  })
  const owned = stack.move()
  return {
    machineId: (await readFile(join(root, 'etc/machine-id'), 'utf8')).trim(),
    hostKey: await readFile(join(root, 'etc/ssh/ssh_host_ed25519_key.pub'), 'utf8'),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
