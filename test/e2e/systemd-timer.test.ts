import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/lab/config.ts'
import { closeHost, type Host, openHost } from '../../src/lab/host.ts'
import { debianArchive } from './debian-archive.ts'
import { ROOT } from './harness.ts'

/**
 * The shipped service and timer under a real systemd, in a container that is a small box: imagebuild is in /opt, a project in
 * /srv, a token in /etc.
 */

const VMID = 240
const UNIT = 'imagebuild-rebuild'
const CONFIG = `namespace: box
targets:
  home:
    kind: pve
    endpoint: https://127.0.0.1:8006
    fingerprint: ${Array(32).fill('00').join(':')}
    token: file:/run/credentials/${UNIT}.service/proxmox-token
    node: pve
    storages: { disks: local, images: local }
    bridge: vmbr0
    addresses: dhcp
`
const VALID = 'name: web\nkind: lxc\nsource: { bootstrap: { distribution: debian, suite: trixie } }\n'
/** What runs in production: imagebuild itself, Node and the packages that it needs there. */
const PROGRAM = [
  ...['imagebuild', 'package.json', 'package-lock.json', 'src', 'ci', 'cloud-init'],
  'node_modules/.package-lock.json',
]

let dir: string
let host: Host
let pid: number

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'imagebuild-timer-'))
  host = await openHost(dir, await readConfig(dir, {}), () => {})
  const storage = host.storages.find(({ id }) => id === 'local-lvm')
  if (storage === undefined) throw new Error('no storage')
  const { volid } = await storage.createRoot(VMID, 4 * 2 ** 30, () => {})
  const spec = {
    ...{ vmid: VMID, hostname: 'box', arch: 'amd64' as const, memory: 1024, swap: 0, unprivileged: false },
    ...{ features: { nesting: true }, root: storage.path(volid), nics: [] },
  }
  await host.containers.create(spec, { archive: await debianArchive() }, () => {})
  await host.containers.start(spec, () => {})
  pid = await eventually(async () => (await host.containers.status(VMID)).pid)
})
afterAll(async () => {
  await closeHost(dir, host)
  await rm(dir, { recursive: true, force: true })
})

async function eventually<T>(probe: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await probe()
    if (found !== undefined) return found
    await delay(100)
  }
}

/** A command in the container; its failure is for the caller. */
function inside(...command: string[]) {
  const spaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--root', '--wd']
  return execa('nsenter', [`--target=${pid}`, ...spaces, '--', ...command], {
    ...{ reject: false, extendEnv: false, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } },
  })
}

async function put(path: string, text: string): Promise<void> {
  const file = join(`/proc/${pid}/root`, path)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, text)
}

/** imagebuild as it is here, without what is only for its development. */
async function installProgram(): Promise<void> {
  const { stdout } = await execa('npm', ['ls', '--omit=dev', '--all', '--parseable'], { cwd: ROOT })
  const packages = stdout.split('\n').map((path) => relative(ROOT, path))
  const files = [...PROGRAM, ...packages.filter((path) => path !== '')]
  const to = join(`/proc/${pid}/root`, 'opt/imagebuild')
  await mkdir(to, { recursive: true })
  const copy = 'tar --create --files-from=- | tar --extract --no-same-owner --directory="$1"'
  const input = [...new Set(files)].join('\n')
  await execa('sh', ['-c', copy, 'sh', to], { cwd: ROOT, input })
}

/** What the journal has of the service's last start. */
async function journal(): Promise<string> {
  const id = await show('service', 'InvocationID')
  return (await inside('journalctl', `_SYSTEMD_INVOCATION_ID=${id}`, '+', `INVOCATION_ID=${id}`, '-o', 'cat'))
    .stdout
}

async function show(kind: 'service' | 'timer', property: string): Promise<string> {
  return (await inside('systemctl', 'show', '--value', '-p', property, `${UNIT}.${kind}`)).stdout
}

test('is installed as the docs say', async () => {
  await eventually(async () => (await inside('systemctl', 'is-system-running', '--wait')).stdout || undefined)
  await installProgram()
  await put('srv/images/imagebuild.yaml', CONFIG)
  await put('srv/images/images/web/image.yaml', VALID)
  await put('etc/imagebuild/proxmox-token', 'imagebuild@pve!box=12345678-1234-1234-1234-123456789abc\n')
  for (const name of [`${UNIT}.service`, `${UNIT}.timer`])
    await put(`etc/systemd/system/${name}`, await readFile(join(ROOT, 'ci/systemd', name), 'utf8'))
  for (const command of [
    'useradd --system --home-dir /var/lib/imagebuild --shell /usr/sbin/nologin imagebuild',
    'chown -R imagebuild: /srv/images',
    'chmod 600 /etc/imagebuild/proxmox-token',
    // This box has no network to wait for.
    'systemctl mask ifupdown-wait-online.service systemd-networkd-wait-online.service',
    'systemctl daemon-reload',
    `systemctl enable --now ${UNIT}.timer`,
  ]) {
    const { exitCode, stderr } = await inside('sh', '-c', command)
    expect(exitCode, stderr).toBe(0)
  }
})

test('waits for the night, and is shown among the timers', async () => {
  const { stdout } = await inside('systemctl', 'list-timers', '--no-pager', `${UNIT}.timer`)
  expect(stdout).toMatch(/ 03:[0-2]\d:\d\d .* imagebuild-rebuild\.timer +imagebuild-rebuild\.service/)
  expect(await show('timer', 'Persistent')).toBe('yes')
  expect(await show('service', 'ActiveState')).toBe('inactive')
})

test('a run that fails makes the service fail, with the reason in the journal, and starts what OnFailure names', async () => {
  await put(`etc/systemd/system/${UNIT}.service.d/failure.conf`, '[Unit]\nOnFailure=failed.service\n')
  await put('etc/systemd/system/failed.service', '[Service]\nType=oneshot\nExecStart=touch /run/told\n')
  await inside('systemctl', 'daemon-reload')
  // The command as it is shipped. It has a token, and nobody listens at the address.
  expect((await inside('systemctl', 'start', `${UNIT}.service`)).exitCode).not.toBe(0)
  expect(await journal()).toMatch(/127\.0\.0\.1:8006/)
  expect(await journal()).not.toMatch(/12345678-1234/)
  expect(await show('service', 'ActiveState')).toBe('failed')
  expect(await show('service', 'Result')).toBe('exit-code')
  await eventually(async () => ((await inside('test', '-e', '/run/told')).exitCode === 0 ? true : undefined))
})

test('the timer starts the service, whose result is in the journal', async () => {
  const path = '/opt/imagebuild/imagebuild'
  await put(
    `etc/systemd/system/${UNIT}.service.d/command.conf`,
    `[Service]\nExecStart=\nExecStart=${path} validate\n`,
  )
  await put(
    `etc/systemd/system/${UNIT}.timer.d/soon.conf`,
    '[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=100ms\n',
  )
  await inside('systemctl', 'daemon-reload')
  await inside('systemctl', 'restart', `${UNIT}.timer`)
  await eventually(async () => ((await journal()).includes('1 image is valid: web') ? true : undefined))
  await eventually(async () => ((await show('service', 'ActiveState')) === 'inactive' ? true : undefined))
  expect(await show('service', 'Result')).toBe('success')
  expect(await show('service', 'TriggeredBy')).toBe(`${UNIT}.timer`)
  expect((await inside('systemctl', 'list-timers', '--all', '--no-pager')).stdout).toContain(`${UNIT}.timer`)
})

test('the service writes in the project and in its own folders, and nowhere else', async () => {
  const places = [
    '/srv/images',
    '/var/cache/imagebuild',
    '/var/lib/imagebuild',
    '/opt/imagebuild',
    '/etc',
    '/home',
  ]
  // By root: what it may is then up to the options of the service alone.
  const script = places.map((place) => `touch ${place}/probe 2>&1 && echo wrote ${place}`).join('; ')
  await put(
    `etc/systemd/system/${UNIT}.service.d/command.conf`,
    `[Service]\nUser=root\nExecStart=\nExecStart=sh -c '${script}; true'\n`,
  )
  await inside('systemctl', 'daemon-reload')
  const { exitCode } = await inside('systemctl', 'start', `${UNIT}.service`)
  const said = await journal()
  expect(exitCode, said).toBe(0)
  expect([...said.matchAll(/^wrote (.*)$/gm)].map(([, place]) => place)).toEqual(places.slice(0, 3))
})
