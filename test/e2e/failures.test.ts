import { mkdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { withDeadline } from '../../src/core/scope.ts'
import { ensureLab, type LabConnection, stopLab } from '../../src/lab/lab.ts'
import type { Pve } from '../../src/pve/client.ts'
import { BOOTSTRAP, inventory, LAB_DIR, labClient, makeProject, type Project, untilEvent } from './harness.ts'

/**
 * Everything that can go wrong, gone wrong for real: each leaves no guest, volume, seed or process, and says why
 * in words that help.
 */
let project: Project
let lab: LabConnection
let pve: Pve
let before: Awaited<ReturnType<typeof inventory>>

beforeAll(async () => {
  project = await makeProject({})
  lab = await ensureLab({ dir: LAB_DIR, signal: AbortSignal.timeout(120_000), emit: () => {}, stay: true })
  pve = await labClient()
  before = await inventory(pve)
})

afterAll(async () => {
  await pve?.[Symbol.asyncDispose]()
  await project[Symbol.asyncDispose]()
})

async function expectNothingLeft(): Promise<void> {
  expect(await inventory(pve)).toEqual(before)
}

/** What is the same for both kinds is tried with the one that boots in a second. */
function container(name: string, provision: string): Record<string, string> {
  return {
    [`images/${name}/image.yaml`]: `name: ${name}\nkind: lxc\n${BOOTSTRAP}\nhardware: { rootfs: 2G }\n${provision}`,
  }
}

function definition(name: string, source: string, provision = ''): Record<string, string> {
  return {
    [`images/${name}/image.yaml`]: `name: ${name}\n${source}\nhardware: { memory: 768 }\n${provision}`,
  }
}

describe('before a guest exists', () => {
  test('a wrong checksum names both', async () => {
    await writeFile(join(project.root, 'disk.raw'), Buffer.alloc(4096))
    const source = `source: { url: "file:../../disk.raw", checksum: "sha256:${'0'.repeat(64)}" }`
    await project.write(definition('checksum', source))
    const { exitCode, result } = await project.run(['checksum'])
    expect(exitCode).toBe(1)
    expect(JSON.stringify(result.error)).toMatch(/checksum/i)
    expect(JSON.stringify(result.error)).toContain('0'.repeat(64))
    await expectNothingLeft()
  })

  test('a source that is not there says 404 and the address', async () => {
    const server = createServer((_, response) => response.writeHead(404).end())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const url = `http://127.0.0.1:${port}/disk.qcow2`
    await project.write(
      definition('missing', `source: { url: "${url}", checksum: "sha256:${'1'.repeat(64)}" }`),
    )
    const { exitCode, result } = await project.run(['missing'])
    server.close()
    expect([1, 69]).toContain(exitCode)
    expect(JSON.stringify(result.error)).toContain('404')
    expect(JSON.stringify(result.error)).toContain(url)
    await expectNothingLeft()
  })

  describe('at the door of Proxmox', () => {
    const target = (overrides: Record<string, string>) => {
      const fields = {
        kind: 'pve',
        endpoint: lab.endpoint,
        token: 'env:E2E_LAB_TOKEN',
        fingerprint: `"${lab.fingerprint}"`,
        node: lab.node,
        storages: '{ disks: local, images: local }',
        ...overrides,
      }
      return `namespace: e2e\ntargets:\n  pve:\n${Object.entries(fields)
        .map(([key, value]) => `    ${key}: ${value}\n`)
        .join('')}`
    }
    const attempt = async (overrides: Record<string, string>, token = lab.token) => {
      await project.write({ ...definition('door', BOOTSTRAP), 'imagebuild.yaml': target(overrides) })
      return await project.run(['door', '--target', 'pve'], { env: { E2E_LAB_TOKEN: token } })
    }

    afterAll(async () => {
      await project.write({
        'imagebuild.yaml': 'namespace: e2e\ntarget: lab\ntargets:\n  lab: { kind: lab }\n',
      })
    })

    test('nobody there: 69', async () => {
      const { exitCode, result } = await attempt({ endpoint: 'https://127.0.0.1:1' })
      expect([exitCode, result.error?.code]).toEqual([69, 'unreachable'])
    })

    test('a wrong fingerprint: 69, with the one that was found', async () => {
      const wrong = `"${'AA:'.repeat(31)}AA"`
      const { exitCode, result } = await attempt({ fingerprint: wrong })
      expect(exitCode).toBe(69)
      expect(JSON.stringify(result.error)).toContain(lab.fingerprint)
    })

    test('a wrong token: 77, and the secret is in no output', async () => {
      const [id] = lab.token.split('=')
      const { exitCode, result, events } = await attempt({}, `${id}=11111111-2222-3333-4444-555555555555`)
      expect(exitCode).toBe(77)
      expect(result.error?.code).toBe('permission_denied')
      expect(JSON.stringify(events)).not.toContain('11111111-2222')
    })

    test('too few privileges: 77, all of them at once, before anything is uploaded', async () => {
      const user = 'weak@pve'
      const root = await rootClient()
      await root.api.access.users.$post({ userid: user })
      await root.api.access.acl.$put({ path: '/vms', users: user, roles: 'PVEVMUser' } as never)
      const { value } = (await root.api.access.users
        .$(user)
        .token.$('weak')
        .$post({ privsep: false })) as unknown as { value: string }
      const { exitCode, result } = await attempt({}, `${user}!weak=${value}`)
      await root.api.access.users.$(user).$delete()
      await root[Symbol.asyncDispose]()
      expect(exitCode).toBe(77)
      const error = JSON.stringify(result.error)
      for (const privilege of [
        'VM.Allocate',
        'VM.Config.Disk',
        'Datastore.AllocateSpace',
        'SDN.Use',
        'pveum',
      ])
        expect(error).toContain(privilege)
      await expectNothingLeft()
    })

    describe('where datacenter.cfg restricts tags: 77, the setting, and nothing is left', () => {
      const user = 'builder@pve'
      let root: Pve
      let token: string

      beforeAll(async () => {
        root = await rootClient()
        await root.api.access.users.$post({ userid: user })
        const roles = 'PVEVMAdmin,PVEDatastoreAdmin,PVESDNUser'
        await root.api.access.acl.$put({ path: '/', users: user, roles } as never)
        const { value } = (await root.api.access.users
          .$(user)
          .token.$('ci')
          .$post({ privsep: false })) as unknown as { value: string }
        token = `${user}!ci=${value}`
      })
      afterAll(async () => {
        await root.api.access.users.$(user).$delete()
        await root[Symbol.asyncDispose]()
      })

      const refused = (tag: string) =>
        new RegExp(`Permission check failed \\(/, Sys\\.Modify for modifying tag '${tag}'\\)$`)

      test.each([
        ['user-tag-access', 'user-allow=none', 'ib-claim'],
        ['user-tag-access', 'user-allow=list,user-allow-list=ib-claim', 'ib-expires-\\d+'],
        ['user-tag-access', 'user-allow=existing', 'ib-claim'],
        ['registered-tags', 'ib-claim', 'ib-claim'],
        ['registered-tags', 'ib-current', 'ib-current'],
      ])('%s: %s', async (option, value, tag) => {
        await root.api.cluster.options.$put({ [option]: value } as never)
        const { exitCode, result } = await attempt({}, token).finally(() =>
          root.api.cluster.options.$put({ delete: option } as never),
        )
        expect(exitCode).toBe(77)
        expect(result.error?.next).toContain('`user-tag-access: user-allow=free`')
        expect(result.error?.why).toMatch(refused(tag))
        await expectNothingLeft()
      })
    })
  })

  test('a full storage says that it is full', async () => {
    const dir = `${LAB_DIR}-full`
    await rm(dir, { recursive: true, force: true })
    await mkdir(dir, { recursive: true })
    const storages = [{ id: 'local', type: 'dir', content: ['images', 'iso', 'import'], limit: 900_000_000 }]
    await writeFile(join(dir, 'config.json'), JSON.stringify({ storages }))
    try {
      await project.write(definition('full', BOOTSTRAP))
      const { exitCode, result } = await project.run(['full'], { env: { IMAGEBUILD_LAB_DIR: dir } })
      expect([1, 75]).toContain(exitCode)
      expect(JSON.stringify(result.error)).toMatch(/no space|full|not enough/i)
      const { list } = await leftIn(dir)
      expect(list).toEqual({ guests: [], volumes: [] })
    } finally {
      await stopLab(dir)
      await rm(dir, { recursive: true, force: true })
    }
  })
})

describe('in the guest', () => {
  test('a layer that exits 3: the layer, its line, its last output; a package that does not exist', async () => {
    const provision =
      'provision:\n  - name: first\n    shell: echo all is well\n  - name: second\n    shell: echo the last words; exit 3\n'
    await project.write(container('exit3', provision))
    const { exitCode, stderr } = await project.imagebuild(['run', 'exit3'])
    expect(exitCode).toBe(1)
    expect(stderr).toContain('layer “second” failed')
    expect(stderr).toMatch(/images\/exit3\/image\.yaml:8:\d+/)
    expect(stderr).toContain('exit code 3')
    expect(stderr).toContain('| the last words')
    await expectNothingLeft()
  })

  test('a package that does not exist is named', async () => {
    await project.write(container('nopackage', 'provision:\n  - packages: [no-such-package-anywhere]\n'))
    const { exitCode, result } = await project.run(['nopackage'])
    expect(exitCode).toBe(1)
    expect(JSON.stringify(result.error)).toContain('no-such-package-anywhere')
    expect(result.error).toMatchObject({ where: { line: 6 } })
    await expectNothingLeft()
  })

  test('a guest that is reset in the middle of a layer fails that layer', async () => {
    await project.write(
      definition(
        'reset',
        BOOTSTRAP,
        'provision:\n  - name: long\n    shell: echo begun; sleep 600\n    timeout: 10m\n',
      ),
    )
    const running = project.imagebuild(['run', '--json', 'reset'])
    await untilEvent(running, (event) => event.type === 'output' && event.line === 'begun')
    const guest = (await inventory(pve)).guests.find(({ name }) => name === 'ib-build-reset')
    await pve.api.nodes
      .$('lab')
      .qemu.$(guest?.vmid ?? 0)
      .status.reset.$post()
    const { exitCode, stdout } = await running
    expect(exitCode).toBe(1)
    const last = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as {
      results: { error: { what: string; why: string } }[]
    }
    expect(last.results[0]?.error.what).toContain('layer “long” failed')
    expect(last.results[0]?.error.why).toMatch(/connection|lost/)
    await expectNothingLeft()
  })

  test('--on-error keep keeps the guest, says how to get in; prune --kept removes it', async () => {
    await project.write(definition('kept', BOOTSTRAP, 'provision:\n  - shell: exit 1\n'))
    const { exitCode, stderr } = await project.imagebuild(['run', 'kept', '--on-error', 'keep'])
    expect(exitCode).toBe(1)
    const [login = ''] = /ssh -i \S+id_ed25519 .*imagebuild@10\.83\.\S+/.exec(stderr) ?? []
    // What its packages do to the whole system is no longer put off.
    const programs = 'ls /usr/sbin /usr/bin | grep -E "^(update-initramfs|update-grub|mandb)([.]|$)"'
    const { stdout } = await execa('sh', ['-c', `${login} -o BatchMode=yes '${programs}'`], {
      stdin: 'ignore',
    })
    expect(stdout.split('\n')).toEqual(['update-grub', 'update-initramfs'])
    expect((await inventory(pve)).guests.filter(({ running }) => running)).toHaveLength(1)
    expect((await project.imagebuild(['prune'])).stdout).toBe('')
    expect((await project.imagebuild(['prune', '--kept'])).stdout).toMatch(/^removed guest VM \d+ of kept/)
    await expectNothingLeft()
  })
})

describe('interrupted', () => {
  test('Ctrl-C while the guest boots: 130, and nothing is left', async () => {
    await project.write(definition('ctrlc', BOOTSTRAP))
    const running = project.imagebuild(['run', '--json', 'ctrlc'])
    await untilEvent(running, (event) => event.type === 'step.start' && event.step === 'boot')
    running.kill('SIGINT')
    expect((await running).exitCode).toBe(130)
    await expectNothingLeft()
  })

  test('Ctrl-C during a layer: 130, and nothing is left', async () => {
    await project.write(container('ctrlc-layer', 'provision:\n  - shell: echo begun; sleep 600\n'))
    const running = project.imagebuild(['run', '--json', 'ctrlc-layer'])
    await untilEvent(running, (event) => event.type === 'output' && event.line === 'begun')
    running.kill('SIGINT')
    expect((await running).exitCode).toBe(130)
    await expectNothingLeft()
  })

  test('kill -9: the lab goes on serving, a second runner is told who builds, prune removes the rest', async () => {
    await project.write(definition('killed', BOOTSTRAP))
    const running = project.imagebuild(['run', '--json', 'killed'])
    await untilEvent(running, (event) => event.type === 'step.start' && event.step === 'boot')
    const second = await project.run(['killed'])
    expect(second.exitCode).toBe(75)
    expect(JSON.stringify(second.result.error)).toContain(`process ${running.pid}`)
    expect((await project.imagebuild(['prune'])).stdout).toBe('')
    running.kill('SIGKILL')
    await running
    expect((await inventory(pve)).guests.length).toBeGreaterThan(before.guests.length)
    const { stdout } = await project.imagebuild(['prune'])
    expect(stdout).toMatch(/claim/)
    expect(stdout).toMatch(/guest/)
    expect(stdout).toMatch(/seed/)
    await expectNothingLeft()
  })
})

async function rootClient(): Promise<Pve> {
  const { connect } = await import('../../src/pve/client.ts')
  return await connect({
    endpoint: lab.endpoint,
    auth: { kind: 'ticket', ...lab.root },
    tls: { fingerprint: lab.fingerprint },
    signal: new AbortController().signal,
  })
}

async function leftIn(dir: string) {
  using signal = withDeadline(undefined, 120, 'asking the full lab')
  const full = await ensureLab({ dir, signal, emit: () => {} })
  const { connect } = await import('../../src/pve/client.ts')
  await using client = await connect({
    endpoint: full.endpoint,
    auth: { kind: 'token', token: full.token },
    tls: { fingerprint: full.fingerprint },
    signal,
  })
  return { list: await inventory(client, 'lab', ['local']) }
}
