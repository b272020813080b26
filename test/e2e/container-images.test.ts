import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HostKeyLog } from '../../src/build/host-key-log.ts'
import { poll } from '../../src/core/scope.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { fingerprint } from '../../src/ssh/host-key.ts'
import { generateKeyPair, knownHostsLine } from '../../src/ssh/openssh.ts'
import { runExample } from './ansible-example.ts'
import { debianArchive } from './debian-archive.ts'
import {
  BOOTSTRAP,
  inventory,
  LAB_DIR,
  labClient,
  makeProject,
  type Project,
  ROOT,
  untilEvent,
} from './harness.ts'

/** Containers as images: the shipped ones built, their clones booted, their archives used by others. */
let project: Project
let pve: Pve

beforeAll(async () => {
  project = await makeProject({})
  await cp(join(ROOT, 'images'), join(project.root, 'images'), { recursive: true })
})

// The other tests find the lab as they would without these: in whatever order they run.
afterAll(async () => {
  if (pve !== undefined) await removeAll()
  await pve?.[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
})

async function removeAll(): Promise<void> {
  const signal = AbortSignal.timeout(120_000)
  const node = pve.api.nodes.$('lab')
  for (const { vmid } of (await node.lxc.$get()) as { vmid: number }[])
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal })
  for (const volid of (await inventory(pve)).volumes) {
    if (volid.startsWith('local:vztmpl/'))
      await node.storage.$('local').content.$(volid).$delete({ delay: 5 })
  }
}

interface Running extends AsyncDisposable {
  /** a file of its tree */
  read(path: string): Promise<string>
  /** a command in all its namespaces; throws when it fails */
  run(command: string): Promise<string>
  /** by DHCP */
  address(): Promise<string>
}

/** Starts a container and looks into it from this machine, which no consumer can do, and needs no key. */
async function start(vmid: number): Promise<Running> {
  const container = pve.api.nodes.$('lab').lxc.$(vmid)
  const signal = AbortSignal.timeout(120_000)
  await pve.waitTask((await container.status.start.$post()) as string, { seconds: 120 })
  const { pid } = (await container.status.current.$get()) as unknown as { pid: number }
  const enter = ['-t', String(pid), '-a', '--']
  await poll(
    async () => {
      const { stdout } = await execa('nsenter', [...enter, 'systemctl', 'is-system-running'], {
        reject: false,
      })
      return ['running', 'degraded'].includes(stdout) ? true : undefined
    },
    { signal, first: 200, max: 500 },
  )
  return {
    read: (path) => readFile(`/proc/${pid}/root${path}`, 'utf8'),
    run: async (command) => (await execa('nsenter', [...enter, '/bin/sh', '-c', command])).stdout,
    address: () =>
      poll(
        async () => {
          const interfaces = (await container.interfaces.$get()) as { name: string; inet?: string }[] | null
          return interfaces?.find(({ name }) => name === 'eth0')?.inet?.split('/')[0]
        },
        { signal, first: 100, max: 500 },
      ),
    [Symbol.asyncDispose]: () =>
      destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal: AbortSignal.timeout(120_000) }),
  }
}

async function clone(template: number, newid: number): Promise<Running> {
  const { lxc } = pve.api.nodes.$('lab')
  const upid = (await lxc
    .$(template)
    .clone.$post({ newid, full: true, hostname: `clone-${newid}` })) as string
  await pve.waitTask(upid, { seconds: 300 })
  // A consumer's tags are their own business.
  await lxc.$(newid).config.$put({ tags: 'consumer' })
  return await start(newid)
}

describe('debian-base-lxc', () => {
  let vmid: number
  let archive: string

  test('is built: a template and an archive, and a second run is unchanged', async () => {
    const first = await project.run(['debian-base-lxc'])
    expect(first.exitCode, first.stderr).toBe(0)
    expect(first.result).toMatchObject({ status: 'built', template: { node: 'lab' } })
    vmid = first.result.template?.vmid as number
    pve = await labClient()
    const config = (await pve.api.nodes.$('lab').lxc.$(vmid).config.$get()) as unknown as Record<
      string,
      string
    >
    expect(config).toMatchObject({ template: 1, unprivileged: 1, memory: 512, swap: 0 })
    expect(config.features).toBe('nesting=1')
    expect(config.tags?.split(';')).toEqual(
      expect.arrayContaining(['debian', 'ib-current', `ib-id-${vmid}`, 'ib-image-debian-base-lxc']),
    )
    // Neither address, name server nor console of the build.
    expect(config.net0).toContain('ip=dhcp')
    expect(config).not.toHaveProperty('nameserver')
    expect(config).not.toHaveProperty('cmode')
    const second = await project.run(['debian-base-lxc'])
    expect([second.exitCode, second.result.status, second.result.template?.vmid]).toEqual([
      0,
      'unchanged',
      vmid,
    ])
  })

  test('outputs name the archive, which is on the storage', async () => {
    const { stdout } = await project.imagebuild(['outputs'])
    const output = (JSON.parse(stdout) as Record<string, { archive: string; version: string }>)[
      'debian-base-lxc'
    ]
    archive = output?.archive as string
    expect(archive).toBe(`local:vztmpl/debian-base-lxc-${output?.version}.tar.zst`)
    expect((await inventory(pve)).volumes).toContain(archive)
  })

  test('has what it had when it was sealed: nothing was written on the way to the template', async () => {
    const { lxc, storage } = pve.api.nodes.$('lab')
    const { rootfs } = (await lxc.$(vmid).config.$get()) as unknown as { rootfs: string }
    const pathOf = async (volid: string) =>
      ((await storage.$('local').content.$(volid).$get()) as unknown as { path: string }).path
    const disk = await pathOf(String(rootfs.split(',')[0]))
    // The archive was read from the container after the last line of the seal. Sockets, and what lies below a mount point,
    // are in no archive.
    const { stdout: sealed } = await execa('tar', [
      ...['--zstd', '--quoting-style=literal', '-tf', await pathOf(archive)],
    ])
    const { stdout: kept } = await execa('unshare', [
      ...[
        '--mount',
        'sh',
        '-ec',
        'mount -o loop,ro,noload "$1" /mnt; cd /mnt; find . -type s -o -print',
        '-',
        disk,
      ],
    ])
    const names = (text: string) =>
      text
        .split('\n')
        .map((name) => name.replace(/^\.\//, '').replace(/\/$/, ''))
        .filter((name) => !['', '.', 'lost+found'].includes(name) && !/^(run|dev|proc|sys)\//.test(name))
        .sort()
    expect(names(kept)).toEqual(names(sealed))
    expect(names(kept)).toContain('etc/ssh/sshd_config')
  })

  test('two clones boot without a failed unit, each with its own host keys, machine-id, name and lease', async () => {
    await using a = await clone(vmid, 510)
    await using b = await clone(vmid, 511)
    const facts = async (one: Running) => ({
      keys: await one.read('/etc/ssh/ssh_host_ed25519_key.pub'),
      machineId: (await one.read('/etc/machine-id')).trim(),
      hostname: await one.run('hostname'),
      address: await one.address(),
    })
    const [factsA, factsB] = [await facts(a), await facts(b)]
    for (const key of ['keys', 'machineId', 'hostname', 'address'] as const)
      expect(factsA[key], key).not.toBe(factsB[key])
    expect(factsA.machineId).toMatch(/^[0-9a-f]{32}$/)
    expect(factsA.hostname).toBe('clone-510')
    expect(await a.run('systemctl --failed --no-legend --plain')).toBe('')
    expect(await a.run('cat /etc/motd')).toContain('debian-base-lxc')
    expect(await a.run('dpkg -s htop | grep ^Status')).toBe('Status: install ok installed')
  })

  test('Ansible clones it by the example, and logs in by certificate', async () => {
    const vmid = 530
    const outcome = await runExample(project, {
      image: 'debian-base-lxc',
      vmid,
      command: 'cat /etc/hostname',
    })
    expect(outcome).toMatchObject({ exitCode: 0, failed: '', said: ['debian-base-lxc-530'] })
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal: AbortSignal.timeout(120_000) })
  })

  test('a clone keeps its host keys and machine-id when it is started again', async () => {
    await using first = await clone(vmid, 512)
    const identity = async (one: Running) =>
      (await one.read('/etc/ssh/ssh_host_ed25519_key.pub')) + (await one.read('/etc/machine-id'))
    const before = await identity(first)
    const container = pve.api.nodes.$('lab').lxc.$(512)
    await pve.waitTask((await container.status.shutdown.$post({ timeout: 60 })) as string, { seconds: 120 })
    expect(await identity(await start(512))).toBe(before)
  })

  test('a clone has no trace of the builder', async () => {
    await using one = await clone(vmid, 513)
    expect(await one.run('cat /root/.ssh/authorized_keys 2>/dev/null || echo gone')).toBe('gone')
    // Names of runs and keys; files of ours that belong into a clone are called after imagebuild alone.
    expect(
      await one.run("grep -rIlE 'imagebuild-(host-)?[0-9a-f]{8}' /etc /root /var/lib 2>/dev/null || true"),
    ).toBe('')
    expect(await one.run('find /var/lib/apt/lists /var/cache/apt -name "*.deb" -o -name "*Packages*"')).toBe(
      '',
    )
    // Where a container is created from the archive, systemd applies presets once: to what a layer has disabled, too.
    expect(await one.read('/etc/systemd/system-preset/00-imagebuild.preset')).toMatch(
      /^disable \S+\.service$/m,
    )
    expect(await one.run('cat /root/.bash_history 2>/dev/null || echo gone')).toBe('gone')
  })

  test('the archive makes containers as any other does: entered by key, known by the logged fingerprint', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'imagebuild-e2e-ct-'))
    const keys = await generateKeyPair('tester')
    await writeFile(`${folder}/key`, keys.privateKey, { mode: 0o600 })
    const log = new HostKeyLog()
    const upid = (await pve.api.nodes.$('lab').lxc.$post({
      vmid: 514,
      ostemplate: archive,
      hostname: 'from-archive',
      rootfs: 'local:2',
      unprivileged: true,
      net0: 'name=eth0,bridge=vmbr0,ip=dhcp',
      'ssh-public-keys': keys.publicKey,
    } as never)) as string
    await pve.waitTask(upid, { seconds: 300, onLog: (line) => log.read(line) })
    await using one = await start(514)
    const hostKey = await one.read('/etc/ssh/ssh_host_ed25519_key.pub')
    expect(fingerprint(hostKey)).toBe(log.fingerprint)
    const address = await one.address()
    await writeFile(`${folder}/known_hosts`, knownHostsLine(address, 22, hostKey))
    const options = ['BatchMode=yes', `UserKnownHostsFile=${folder}/known_hosts`, 'StrictHostKeyChecking=yes']
    const { stdout } = await execa('ssh', [
      ...options.flatMap((option) => ['-o', option]),
      ...['-i', `${folder}/key`, `root@${address}`, 'hostname; cat /etc/motd'],
    ])
    expect(stdout).toMatch(/^from-archive\n/)
    expect(stdout).toContain('debian-base-lxc')
    await rm(folder, { recursive: true })
  })

  test('a child starts from the parent’s archive, and restarts while it is built', async () => {
    await project.write({
      'images/child/image.yaml': `name: child
kind: lxc
source: { image: debian-base-lxc }
hardware: { rootfs: 3G }
provision:
  - shell: test -x /usr/bin/htop && echo child > /etc/child
  - reboot: true
  - shell: grep child /etc/child
`,
    })
    const { exitCode, result, stderr } = await project.run(['child'])
    expect(exitCode, stderr).toBe(0)
    expect(result.status).toBe('built')
  })

  test('cloud-init fragments are applied in a container too, and leave its network to Proxmox', async () => {
    await project.write({
      'images/seeded/image.yaml': `name: seeded
kind: lxc
${BOOTSTRAP}
hardware: { rootfs: 2G }
cloudInit: [base, marker]
`,
      'cloud-init/marker.yaml':
        '#cloud-config\nwrite_files:\n  - { path: /etc/marker, content: "from a fragment" }\n',
    })
    const { exitCode, result, stderr } = await project.run(['seeded'])
    expect(exitCode, stderr).toBe(0)
    await using one = await clone(result.template?.vmid as number, 515)
    expect(await one.read('/etc/marker')).toBe('from a fragment')
    expect(await one.address()).toMatch(/^10\./)
    expect(await one.run('systemctl --failed --no-legend --plain')).toBe('')
    // Nothing tells it anything here, so it must not touch host keys that others know already.
    expect(await one.run('cloud-init status || true')).toContain('disabled')
    expect(await one.run('find /var/lib/cloud -type f')).toBe('')
  })
})

describe('other sources', () => {
  const hash = async (algorithm: string, path: string) =>
    createHash(algorithm)
      .update(await readFile(path))
      .digest('hex')

  test('Debian 12 at a URL, with neither SSH server nor ifupdown, gets both on its first boot, and is hardened', async () => {
    const path = await debianArchive({ bare: true })
    await project.write({
      'images/bare/image.yaml': `name: bare
kind: lxc
source: { url: "file://${path}", checksum: "sha256:${await hash('sha256', path)}" }
hardware: { rootfs: 2G }
hardening: baseline
`,
    })
    const verified = { env: { IMAGEBUILD_VERIFY: 'full' } }
    const { exitCode, result, stderr } = await project.run(['bare'], verified)
    expect(exitCode, `${stderr}${JSON.stringify(result.error, undefined, 2)}`).toBe(0)
    await using one = await clone(result.template?.vmid as number, 516)
    expect(await one.run('systemctl is-active ssh')).toBe('active')
    expect(await one.read('/etc/debian_version')).toMatch(/^12\./)
    expect(await one.run('ls /etc/systemd/system')).not.toContain('imagebuild-prepare')
    expect(await one.address()).toMatch(/^10\./)
  })

  test('an appliance is downloaded and checked by the node', async () => {
    const path = await debianArchive()
    const file = 'debian-13-standard_13.1-2_amd64.tar.zst'
    const server = createServer((request, response) => {
      if (request.url === `/${file}`) createReadStream(path).pipe(response)
      else response.writeHead(404).end()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    await writeFile(
      join(LAB_DIR, 'appliances.dat'),
      `Package: debian-13-standard
Version: 13.1-2
Type: lxc
OS: debian-13
Section: system
Architecture: amd64
Location: http://127.0.0.1:${port}/${file}
sha512sum: ${await hash('sha512', path)}
Description: Debian 13
`,
    )
    await project.write({
      'images/appliance/image.yaml':
        'name: appliance\nkind: lxc\nsource: { appliance: debian-13-standard }\nhardware: { rootfs: 2G }\n',
    })
    const { exitCode, result, stderr } = await project.run(['appliance'])
    server.close()
    expect(exitCode, stderr).toBe(0)
    expect(result.status).toBe('built')
    expect((await inventory(pve)).volumes).toContain(`local:vztmpl/${file}`)
    {
      // Its SSH server was there before its first boot, which enables whatever no preset disables.
      await using one = await clone(result.template?.vmid as number, 517)
      const enabled =
        'systemctl list-unit-files --state=enabled --no-legend --plain "ssh.s*" | cut -d " " -f 1'
      expect(await one.run(enabled)).toBe('ssh.service')
      const reloaded = 'systemctl reload ssh.service && sleep 2 && systemctl is-active ssh.service'
      expect(await one.run(reloaded)).toBe('active')
    }
    const unknown = await project
      .write({
        'images/appliance/image.yaml':
          'name: appliance\nkind: lxc\nsource: { appliance: debian-13-standart }\nhardware: { rootfs: 2G }\n',
      })
      .then(() => project.run(['appliance']))
    expect(unknown.exitCode).toBe(1)
    expect(JSON.stringify(unknown.result.error)).toContain('did you mean `debian-13-standard`')
  })
})

describe('docker-host-lxc', () => {
  test('is built; in a clone, `docker run` of an image that is nothing but one program works', async () => {
    const { exitCode, result, stderr } = await project.run(['docker-host-lxc'])
    expect(exitCode, stderr).toBe(0)
    await using one = await clone(result.template?.vmid as number, 520)
    expect(await one.run('systemctl --failed --no-legend --plain')).toBe('')
    await one.run('tar -C /usr/bin -c tini-static | docker import - scratch:1')
    expect(await one.run('docker run --rm scratch:1 /tini-static --version')).toMatch(/^tini version/)
  })

  test('two clones have Docker engines of their own', async () => {
    const { stdout } = await project.imagebuild(['resolve', 'docker-host-lxc'])
    await using a = await clone(Number(stdout), 521)
    await using b = await clone(Number(stdout), 522)
    const ids = [await a.run("docker info --format '{{.ID}}'"), await b.run("docker info --format '{{.ID}}'")]
    expect(ids[0]).toMatch(/^\S{8}/)
    expect(ids[0]).not.toBe(ids[1])
  })
})

describe('what goes wrong', () => {
  const image = (name: string, rest: string) => ({
    [`images/${name}/image.yaml`]: `name: ${name}\nkind: lxc\n${BOOTSTRAP}\nhardware: { rootfs: 2G }\n${rest}`,
  })

  test('a layer that fails leaves neither container nor archive', async () => {
    const before = await inventory(pve)
    await project.write(
      image('broken', 'template: { archive: true }\nprovision:\n  - shell: echo no good; exit 3\n'),
    )
    const { exitCode, result } = await project.run(['broken'])
    expect(exitCode).toBe(1)
    expect(JSON.stringify(result.error)).toContain('exit code 3')
    expect(await inventory(pve)).toEqual(before)
  })

  test('--on-error keep says how to get in, and the command it prints works', async () => {
    const before = await inventory(pve)
    await project.write(image('broken', 'provision:\n  - shell: exit 4\n'))
    const { result } = await project.run(['broken', '--on-error', 'keep'])
    const next = String((result.error as { next?: string }).next)
    expect(next).toMatch(/CT \d+ on lab is kept for a day/)
    const command = /^ +(ssh .+)$/m.exec(next)?.[1] as string
    const { stdout } = await execa('sh', ['-c', `${command} -o BatchMode=yes hostname`], { stdin: 'ignore' })
    expect(stdout).toBe('broken')
    expect((await project.imagebuild(['prune', '--kept'])).exitCode).toBe(0)
    expect(await inventory(pve)).toEqual(before)
  })

  test('killed while the archive is kept: the next run leaves no orphan', async () => {
    const before = await inventory(pve)
    await project.write(image('killed', 'template: { archive: true }\n'))
    const running = project.imagebuild(['run', '--json', 'killed'])
    await untilEvent(running, (event) => event.type === 'output' && event.step === 'archive')
    running.kill('SIGKILL')
    await running
    const { exitCode, result, stderr } = await project.run(['killed'])
    expect(exitCode, stderr).toBe(0)
    const after = await inventory(pve)
    const version = result.template?.version
    const old = new Set(before.guests.map((guest) => guest.vmid))
    expect(after.guests.filter(({ vmid }) => !old.has(vmid))).toMatchObject([
      { template: true, name: `killed-${version}` },
    ])
    expect(after.volumes.filter((volid) => volid.includes('vztmpl/killed'))).toEqual([
      `local:vztmpl/killed-${version}.tar.zst`,
    ])
  })

  test('features that only root@pam may set are refused before anything is built, with exit 77', async () => {
    const before = await inventory(pve)
    await project.write(image('keys', 'features: { nesting: true, keyctl: true }\n'))
    const { exitCode, result } = await project.run(['keys'])
    expect(exitCode).toBe(77)
    expect(JSON.stringify(result.error)).toContain('root@pam')
    expect(await inventory(pve)).toEqual(before)
  })
})
