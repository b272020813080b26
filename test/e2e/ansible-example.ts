import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { labStatus } from '../../src/lab/lab.ts'
import { LAB_DIR, type Project, ROOT } from './harness.ts'

/** What the example did. */
export interface Outcome {
  exitCode: number
  /** names of tasks that changed something */
  changed: string[]
  /** name of the task that failed, and its words */
  failed: string
  /** what the command said in the clone */
  said: string[]
}

interface Wanted {
  image: string
  /** of the clone */
  vmid: number
  /** run in the clone */
  command: string
  env?: Record<string, string>
}

/** examples/ansible as its first lines say, against the tests' lab, with a certificate of the lab's own CA. */
export async function runExample(
  project: Project,
  { image, vmid, command, env = {} }: Wanted,
): Promise<Outcome> {
  const lab = await labStatus(LAB_DIR)
  if (!lab.running) throw new Error('the lab does not run')
  const key = join(project.root, `ansible-${vmid}`)
  for (const left of ['', '.pub', '-cert.pub']) await rm(`${key}${left}`, { force: true })
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'ansible', '-f', key])
  const signed = await project.imagebuild(
    `ssh-ca sign-user ${key}.pub --folder ${join(LAB_DIR, 'ssh-ca')} --principal root --validity 1h`.split(
      ' ',
    ),
  )
  if (signed.failed) throw new Error(signed.stderr)
  const { stdout: outputs } = await project.imagebuild(['outputs', '--format', 'ansible'])
  await writeFile(join(project.root, 'templates.json'), outputs)
  await writeFile(join(project.root, 'ansible.cfg'), '')
  const variables = { image, vmid, key, command, known_hosts: `${key}.known_hosts` }
  const { exitCode, stdout, stderr } = await execa(
    'ansible-playbook',
    [join(ROOT, 'examples/ansible/clone.yml'), ...['-e', '@templates.json', '-e', JSON.stringify(variables)]],
    {
      cwd: project.root,
      reject: false,
      stdin: 'ignore',
      env: {
        // Not what somebody has set up for themselves.
        ANSIBLE_CONFIG: join(project.root, 'ansible.cfg'),
        ANSIBLE_HOME: join(project.root, 'ansible'),
        ANSIBLE_STDOUT_CALLBACK: 'json',
        PROXMOX_VE_ENDPOINT: lab.endpoint,
        PROXMOX_VE_API_TOKEN: lab.token,
        REQUESTS_CA_BUNDLE: join(LAB_DIR, 'tls.crt'),
        ...env,
      },
    },
  )
  const start = stdout.indexOf('{\n')
  if (start < 0) throw new Error(`ansible-playbook said nothing that can be read:\n${stdout}\n${stderr}`)
  return { exitCode: exitCode ?? -1, ...understand(JSON.parse(stdout.slice(start))) }
}

interface Result {
  changed?: boolean
  failed?: boolean
  unreachable?: boolean
  msg?: string
  stdout_lines?: string[]
}

interface Log {
  plays: { tasks: { task: { name: string }; hosts: Record<string, Result> }[] }[]
}

function understand({ plays }: Log): Omit<Outcome, 'exitCode'> {
  const results = plays
    .flatMap(({ tasks }) => tasks)
    .flatMap(({ task, hosts }) => Object.values(hosts).map((result) => ({ name: task.name, ...result })))
  const broken = results.find(({ failed, unreachable }) => failed || unreachable)
  return {
    changed: results.filter(({ changed }) => changed).map(({ name }) => name),
    failed: broken === undefined ? '' : `${broken.name}: ${broken.msg}`,
    said: results.findLast(({ name }) => name === 'Look around')?.stdout_lines ?? [],
  }
}
