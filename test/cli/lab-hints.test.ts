import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { asCalled } from '../../src/cli/called.ts'
import { failureAsJson, renderFailure } from '../../src/cli/failure.ts'
import { fitting, hintsForLab } from '../../src/cli/lab-hints.ts'
import { jsonRenderer } from '../../src/cli/render.ts'
import { chooseTarget } from '../../src/cli/target.ts'
import { ImagebuildError } from '../../src/core/errors.ts'
import { PveTaskError } from '../../src/pve/errors.ts'
import { consoleCommand } from '../../src/pve/guest-ref.ts'
import { describeLocked } from '../../src/pve/locked-guest.ts'
import { restrictedTag } from '../../src/pve/restricted-tags.ts'
import { projectOnDisk } from '../definition/project-on-disk.ts'

/** Commands and files of a Proxmox node, as hints name them. */
const OF_A_NODE =
  /\b(pvenode|pvesm|pveam|pveum|pveproxy|pvedaemon)\b|\b(qm|pct) (?!is\b)\w|\/etc\/pve|journalctl -u/

const VM = { kind: 'vm', node: 'lab', vmid: 9001 } as const
const CT = { kind: 'lxc', node: 'lab', vmid: 9002 } as const
const UPID = 'UPID:lab:00000001:00000002:66000000:vzdump:9002:imagebuild@pve!lab:'

beforeEach(() => hintsForLab('/srv/lab'))
afterEach(() => {
  hintsForLab(undefined)
  vi.unstubAllEnvs()
})

const failedTask = () =>
  new PveTaskError({ upid: UPID, type: 'vzdump', id: '9002', exitstatus: 'it broke', output: [] })
const locked = (guest: typeof VM | typeof CT, died?: string) =>
  describeLocked({ user: 'x' }, guest, { by: 'nobody', ...(died !== undefined && { died }) }).next
const tag = (name: string) =>
  restrictedTag(`Permission check failed (/, Sys.Modify for modifying tag '${name}')`)?.next ?? ''

describe('of a lab a hint says', () => {
  test.each([
    [
      'where the log of a task lies',
      () => failedTask().next ?? '',
      `/srv/lab/state/tasks/${encodeURIComponent(UPID)}`,
    ],
    [
      'how to remove a guest that a dead worker has left',
      () => locked(VM),
      'imagebuild lab stop; the lab removes it',
    ],
    ['… a container', () => locked(CT, UPID), 'imagebuild lab stop; the lab removes it'],
    [
      'where the console is',
      () => `see it by hand, on the node: ${consoleCommand(VM)}`,
      'see it by hand: tail -f /srv/lab/machines/9001/serial.log',
    ],
    [
      '… of a container',
      () => `see its console: ${consoleCommand(CT)}`,
      'see its console: tail -f /srv/lab/containers/9002/console.log',
    ],
    ['where tags are restricted', () => tag('ib-building'), 'into /srv/lab/datacenter.cfg'],
    ['… one tag', () => tag('mine'), '`registered-tags` in /srv/lab/datacenter.cfg; or'],
  ])('%s', (_, hint, expected) => {
    expect(hint()).toMatch(OF_A_NODE)
    expect(fitting(hint())).toContain(expected)
    expect(fitting(hint())).not.toMatch(OF_A_NODE)
  })

  test('nothing else: a Proxmox server has its own, and other words stay', () => {
    expect(fitting('run `imagebuild prune`')).toBe('run `imagebuild prune`')
    hintsForLab(undefined)
    expect(fitting(locked(VM))).toBe('on lab, as root: qm unlock 9001 && qm destroy 9001')
  })
})

test('which of both a hint is about follows from the target', async () => {
  vi.stubEnv('IMAGEBUILD_LAB_DIR', '/srv/other lab')
  vi.stubEnv('CI', '')
  await using project = await projectOnDisk({
    'imagebuild.yaml':
      'namespace: home\ntarget: lab\ntargets:\n  lab: { kind: lab }\n  home: { kind: pve, node: pve, storages: { disks: a, images: a } }\n',
  })
  const config = await project.load()
  chooseTarget(config, undefined)
  expect(fitting(consoleCommand(VM))).toBe("tail -f '/srv/other lab/machines/9001/serial.log'")
  chooseTarget(config, 'home')
  expect(fitting(consoleCommand(VM))).toBe('qm terminal 9001')
})

test('people and readers of JSON see the same, in errors and in what was left behind', () => {
  const error = failedTask()
  const hint = `look at it: '/srv/lab/state/tasks/${encodeURIComponent(UPID)}'`
  expect(renderFailure(error, { debug: false })).toContain(hint)
  expect(failureAsJson(error, undefined)).toMatchObject({ next: hint })
  let text = ''
  const sink = jsonRenderer({ write: (part: string) => (text += part) })
  sink({ type: 'leak', resource: 'VM 9001', why: 'it died', next: locked(VM) })
  expect(JSON.parse(text)).toMatchObject({ next: expect.stringContaining('imagebuild lab stop') })
})

test('the command in it is as it was called', () => {
  expect(asCalled(locked(VM))).toBe('imagebuild lab stop; the lab removes it when it starts again')
})

/**
 * Files that name what is on a node alone. Of credentials, privileges and certificates no hint is ever shown of a lab: it makes
 * them itself, for a token that may do everything.
 */
const ELSEWHERE = [
  'pve/tls.ts',
  'pve/session.ts',
  'pve/permissions.ts',
  'cli/target-login.ts',
  'cli/lab-hints.ts',
]

/** The strings of a source file that name something of a node, with what is put into them. */
function hintsIn(file: string): string[] {
  const text = readFileSync(file, 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
  const strings = text.match(/'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g) ?? []
  return strings
    .map((string) =>
      string
        .slice(1, -1)
        .replaceAll('\\`', '`')
        .replaceAll(/\$\{[^}]*upid\}/g, UPID),
    )
    .map((string) => string.replaceAll(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, '9001'))
    .filter((string) => OF_A_NODE.test(string))
}

/** Part of a hint that is tested as a whole above, or never shown of a lab: about a token's privileges. */
const PARTS = [
  /^, where `pvenode task list/,
  /^see on 9001, as root, who is creating it/,
  /^pvesm set /,
  /^grant 9001 on 9001: pveum/,
  /^check the credentials/,
]

test('each hint of the program that names something of a node has its words for a lab', () => {
  const files = ['pve', 'build', 'source', 'cli', 'core', 'plan'].flatMap((room) =>
    readdirSync(join('src', room), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `${room}/${name}`),
  )
  const hints = files
    .filter((file) => !ELSEWHERE.includes(file))
    .flatMap((file) => hintsIn(join('src', file)).map((hint) => ({ file, hint })))
    .filter(({ hint }) => !PARTS.some((part) => part.test(hint)))
  expect(hints.length).toBeGreaterThan(8)
  expect(hints.filter(({ hint }) => OF_A_NODE.test(fitting(hint)))).toEqual([])
})

test('another storage is named, where no command can change that one', () => {
  const next =
    'on lab, as root: pvesm set local --content iso,import\nor name other storages in imagebuild.yaml'
  const error = new ImagebuildError({ code: 'definition_invalid', what: 'x', next })
  expect(failureAsJson(error, undefined)).toMatchObject({ next: 'name other storages in imagebuild.yaml' })
})
