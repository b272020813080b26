import { execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { poll } from '../src/core/scope.ts'
import { GuestStore } from '../src/lab/api/guests/store.ts'
import { ensureLab, type LabConnection, stopLab } from '../src/lab/lab.ts'
import { askTemplates } from '../src/pve/cluster.ts'
import { toTags } from '../src/pve/marks.ts'
import { sameNode } from './startup.ts'
import type { Measured } from './statistics.ts'
import { median } from './statistics.ts'
import { ROOT } from './workspace.ts'

const run = promisify(execFile)

/**
 * `resolve` in a large cluster: its one request beside curl's for the same, and the whole command beside what must be
 * paid anyway, a start of Node and that request.
 */
const GUESTS = 5000
/** every so many of them is a template of ours */
const EACH_TEMPLATE = 50
const ROUNDS = 21

/** In-process time may be so many times curl's. */
const RATIO = 2
/** Milliseconds that the whole command may take beyond `node -e 0` and curl. */
const BEYOND = 150

const NAMESPACE = 'bench'
const IMAGE = 'image-7'

export async function measureResolve(signal: AbortSignal): Promise<Measured[]> {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-bench-resolve-'))
  const dir = join(folder, 'lab')
  try {
    const expected = await fill(join(dir, 'state/guests'))
    process.env.IMAGEBUILD_LAB_IDLE_SECONDS = '3600'
    const lab = await ensureLab({ dir, signal, emit: () => {} })
    await listed(lab, expected, signal)
    const requests = await countRequests(folder, dir, lab, expected)
    return [
      {
        what: `requests of resolve among ${GUESTS} guests`,
        figure: `${requests}`,
        limit: '1',
        kept: requests === 1,
      },
      ...(await measure(folder, dir, lab, expected)),
    ]
  } finally {
    await stopLab(dir)
    await rm(folder, { recursive: true, force: true })
  }
}

/** Diskless machines with the configuration of usual ones. Gives the VMID that is to be found. */
async function fill(state: string): Promise<number> {
  await mkdir(state, { recursive: true, mode: 0o700 })
  const store = new GuestStore(state, 'lab')
  let current = 0
  for (let index = 0; index < GUESTS; index++) {
    const vmid = 10_000 + index
    const byte = (value: number) => (value & 255).toString(16).padStart(2, '0').toUpperCase()
    const guest = store.add(vmid, {
      ...{ name: `web-${index}`, cores: 2, memory: '2048', ostype: 'l26', tags: 'team-a;web' },
      net0: `virtio=BC:24:11:00:${byte(index >> 8)}:${byte(index)},bridge=vmbr0`,
    })
    if (index % EACH_TEMPLATE === 0) {
      const serial = (index / EACH_TEMPLATE) % 3
      const image = `image-${Math.floor(index / EACH_TEMPLATE / 3)}`
      const state = (['retired', 'previous', 'current'] as const)[serial] ?? 'current'
      const version = `20260101.${serial + 1}`
      const marks = { vmid, namespace: NAMESPACE, image, state, version, digest: `sha256:${'0'.repeat(64)}` }
      Object.assign(guest.config, { name: `${image}-${version}`, template: 1, tags: toTags(marks) })
      if (image === IMAGE && state === 'current') current = vmid
    }
    await store.save(guest)
  }
  return current
}

/** The cluster's list is some seconds behind. */
async function listed(lab: LabConnection, expected: number, signal: AbortSignal): Promise<void> {
  const { endpoint, token, fingerprint } = lab
  const connection = { endpoint, auth: { kind: 'token', token }, tls: { fingerprint }, signal } as const
  const known = async () =>
    (await askTemplates(connection)).some(({ vmid }) => vmid === expected) || undefined
  await poll(known, { signal, first: 500 })
}

async function project(folder: string, endpoint: string, fingerprint: string): Promise<void> {
  await writeFile(
    join(folder, 'imagebuild.yaml'),
    `namespace: ${NAMESPACE}
target: cluster
targets:
  cluster:
    kind: pve
    endpoint: ${endpoint}
    fingerprint: ${fingerprint}
    node: lab
    storages: { disks: local, images: local }
`,
  )
}

/** Through a server in between that counts. */
async function countRequests(
  folder: string,
  dir: string,
  lab: LabConnection,
  expected: number,
): Promise<number> {
  const [cert, key] = await Promise.all(
    ['tls.crt', 'tls.key'].map((name) => readFile(join(dir, name), 'utf8')),
  )
  let count = 0
  const server = createServer({ cert, key }, (asked, answer) => {
    count += 1
    const { method, headers, url } = asked
    const onward = request(`${lab.endpoint}${url}`, { method, headers, ca: cert }, (answered) => {
      answer.writeHead(answered.statusCode ?? 502, answered.headers)
      answered.pipe(answer)
    })
    asked.pipe(onward)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    await project(folder, `https://127.0.0.1:${(server.address() as AddressInfo).port}`, lab.fingerprint)
    await checked(folder, lab, expected)
    return count
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

function environment(lab: LabConnection): NodeJS.ProcessEnv {
  return { ...process.env, CI: '', PROXMOX_VE_API_TOKEN: lab.token }
}

async function checked(cwd: string, lab: LabConnection, expected: number): Promise<void> {
  const { stdout } = await run(join(ROOT, 'imagebuild'), ['resolve', IMAGE], { cwd, env: environment(lab) })
  if (stdout !== `${expected}\n`) throw new Error(`resolve says ${stdout}, and ${expected} is the template`)
}

async function measure(
  folder: string,
  dir: string,
  lab: LabConnection,
  expected: number,
): Promise<Measured[]> {
  await project(folder, lab.endpoint, lab.fingerprint)
  const node = await sameNode()
  const times = { node: [], curl: [], request: [], inside: [], whole: [] } as Record<string, number[]>
  const timed = async (into: string, work: () => Promise<unknown>) => {
    const started = performance.now()
    await work()
    times[into]?.push(performance.now() - started)
  }
  for (let round = -1; round < ROUNDS; round++) {
    // The first fills caches, of Node and of the lab.
    if (round === 0) for (const list of Object.values(times)) list.length = 0
    await timed('node', () => run(node, ['-e', '0']))
    await timed('curl', async () => times.request?.push(await curl(dir, lab)))
    await timed('whole', () => checked(folder, lab, expected))
    times.inside?.push(await inside(node, folder, lab))
  }
  const of = (name: string) => median(times[name] ?? [])
  const ratio = of('inside') / of('request')
  const beyond = of('whole') - of('node') - of('curl')
  const ms = (value: number) => `${value.toFixed(1)} ms`
  return [
    { what: 'curl: the request alone', figure: ms(of('request')) },
    { what: 'the request in resolve’s process', figure: ms(of('inside')) },
    { what: 'their ratio', figure: ratio.toFixed(2), limit: `at most ${RATIO}`, kept: ratio <= RATIO },
    { what: 'node -e 0, and curl', figure: `${ms(of('node'))}, ${ms(of('curl'))}` },
    { what: 'imagebuild resolve', figure: ms(of('whole')) },
    { what: 'beyond both', figure: ms(beyond), limit: `at most ${BEYOND} ms`, kept: beyond <= BEYOND },
  ]
}

/** Milliseconds by curl's own clock, from its start to the last byte. The token comes in by stdin. */
async function curl(dir: string, lab: LabConnection): Promise<number> {
  const child = spawn(
    'curl',
    ['-sS', '-K', '-', '--cacert', join(dir, 'tls.crt'), '-o', '/dev/null', '-w', '%{time_total}'],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  )
  child.stdin.end(
    `header = "Authorization: PVEAPIToken=${lab.token}"\nurl = "${lab.endpoint}/api2/json/cluster/resources?type=vm"\n`,
  )
  return Number(await text(child.stdout)) * 1000
}

/** Milliseconds from asking to the chosen template, in a process of its own. */
async function inside(node: string, cwd: string, lab: LabConnection): Promise<number> {
  const program = join(ROOT, 'bench/resolve-inside.ts')
  // As the wrapper sets it.
  const NODE_COMPILE_CACHE = join(ROOT, 'node_modules/.cache/compile')
  const env = { ...environment(lab), NODE_COMPILE_CACHE }
  const { stderr } = await run(node, ['--min-semi-space-size=16', program, IMAGE], { cwd, env })
  return Number(stderr)
}
