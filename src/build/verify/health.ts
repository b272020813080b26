import { PveError } from '../../pve/errors.ts'
import type { Guest } from '../../pve/guest.ts'
import { type Facts, one } from './facts.ts'
import type { Result } from './report.ts'

/** That a clone has come up as it should. */

/** What cloud-init writes of itself: https://docs.cloud-init.io, "result.json" and "status.json". */
interface CloudInitResult {
  v1: { datasource: string | null; errors: string[] }
}
interface CloudInitStatus {
  v1: Record<string, { errors?: string[]; recoverable_errors?: Record<string, string[]> } | string | null>
}

/** Of what cloud-init got over, by the levels of its log: that something went wrong. DEPRECATED is about who wrote it. */
const WRONG = new Set(['WARNING', 'ERROR', 'CRITICAL'])

/** Bytes that may be left over behind the last partition: GPT's second table, and alignment. */
const DISK_SLACK = 2 ** 22

/** What a file system's own tables take at most, where its exact size is not known. */
const TABLES = 0.05

type Verdict = Pick<Result, 'outcome' | 'found'>
const PASSED: Verdict = { outcome: 'passed' }
const failed = (found: string): Verdict => ({ outcome: 'failed', found })
const skipped = (found: string): Verdict => ({ outcome: 'skipped', found })

export async function judgeHealth(facts: Facts, guest: Guest): Promise<Result[]> {
  const { kind } = guest
  const units = one(facts, 'failed-units')
  const system = one(facts, 'system')
  const result = (id: string, title: string, verdict: Verdict): Result => ({
    group: 'health',
    id,
    title,
    sources: [],
    ...verdict,
  })
  return [
    result(
      'boot',
      'it has finished booting',
      /^(running|degraded)$/.test(system) ? PASSED : failed(`systemd says: ${system || 'nothing'}`),
    ),
    result('units', 'no unit of systemd has failed', units === '' ? PASSED : failed(units)),
    result('cloud-init', 'cloud-init is done, and all went well', judgeCloudInit(facts, kind)),
    ...(kind === 'vm'
      ? [
          result('guest-agent', 'the guest agent answers', await judgeAgent(facts, guest)),
          result('root-disk', 'the root file system has grown with its disk', judgeRootDisk(facts)),
        ]
      : []),
  ]
}

function judgeCloudInit(facts: Facts, kind: 'vm' | 'lxc'): Verdict {
  const state = one(facts, 'cloud-init')
  if (state === 'absent' || state === 'disabled') {
    // Proxmox gives a container no data source.
    return kind === 'lxc' ? PASSED : failed(`it is ${state === 'absent' ? 'not installed' : 'disabled'}`)
  }
  if (state !== 'done') return failed('it has not come to an end')
  const { datasource, errors } = (JSON.parse(one(facts, 'cloud-init-result')) as CloudInitResult).v1
  const status = JSON.parse(one(facts, 'cloud-init-status') || '{"v1":{}}') as CloudInitStatus
  const wrong = [
    ...errors,
    ...Object.values(status.v1).flatMap((stage) =>
      typeof stage === 'object' && stage !== null
        ? Object.entries(stage.recoverable_errors ?? {}).flatMap(([level, said]) =>
            WRONG.has(level) ? said.map((one) => `${level.toLowerCase()}: ${one}`) : [],
          )
        : [],
    ),
  ]
  if (wrong.length > 0) return failed([...new Set(wrong)].join('\n'))
  if (datasource === null || /None/.test(datasource)) return failed('it has run, and found no data source')
  return PASSED
}

async function judgeAgent(facts: Facts, guest: Guest): Promise<Verdict> {
  if (one(facts, 'guest-agent') === '') return skipped('qemu-guest-agent is not installed')
  try {
    return (await guest.agentAnswers()) ? PASSED : failed('it is installed, and does not answer')
  } catch (error) {
    if (!(error instanceof PveError)) throw error
    return skipped(`Proxmox forbids us to ask it: ${error.pveMessage}`)
  }
}

function judgeRootDisk(facts: Facts): Verdict {
  const told = one(facts, 'root-disk')
  if (told === '') return skipped('the root file system is not on a partition')
  const [device = '', ...numbers] = told.split(' ')
  const [size = 0, partition = 0, end = 0, disk = 0] = numbers.map(Number)
  const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
  if (disk - end > DISK_SLACK)
    return failed(`${device} ends ${mib(disk - end)} before its disk of ${mib(disk)}`)
  if (size < partition * (1 - TABLES))
    return failed(`the file system has ${mib(size)} of the ${mib(partition)} of ${device}`)
  return PASSED
}
