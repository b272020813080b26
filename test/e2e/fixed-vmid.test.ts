import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Event } from '../../src/core/events.ts'
import type { Pve } from '../../src/pve/client.ts'
import { configIfThere, destroyGuest } from '../../src/pve/destroy.ts'
import { readConfig } from '../../src/pve/guest-ref.ts'
import { fromTags, parseNote } from '../../src/pve/marks.ts'
import { BOOTSTRAP, labClient, makeProject, type Project, untilEvent } from './harness.ts'

/** An image whose consumers say `clone = 8100`: each version gets that VMID, for real. */

const FIXED = 8100
let project: Project
let pve: Pve
const versions: string[] = []

const definition = (template: string) => ({
  'images/rock/image.yaml': `name: rock\nkind: lxc\n${BOOTSTRAP}\nhardware: { rootfs: 2G }\ntemplate: ${template}\n`,
})

beforeAll(async () => {
  project = await makeProject(definition('{ keep: 3, tags: [golden], description: Rock }'))
  const { exitCode, result, stderr } = await project.run(['rock'])
  expect(exitCode, stderr).toBe(0)
  versions.push(result.template?.version as string)
  pve = await labClient()
})

afterAll(async () => {
  const signal = AbortSignal.timeout(120_000)
  const rows = (await pve.api.nodes.$('lab').lxc.$get()) as unknown as { vmid: number; tags?: string }[]
  const ours = rows.filter(({ tags }) => tags?.split(';').includes('ib-image-rock')).map(({ vmid }) => vmid)
  for (const vmid of [540, ...ours])
    await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid: Number(vmid), signal })
  await project[Symbol.asyncDispose]()
})

const at = (vmid: number) => ({ kind: 'lxc', node: 'lab', vmid }) as const
const resolve = async (selector = 'current') => {
  const { stdout } = await project.imagebuild(['resolve', `rock@${selector}`])
  return Number(stdout)
}
const versionAt = async (vmid: number) => fromTags(vmid, (await readConfig(pve, at(vmid))).tags)?.version
const ours = async () => {
  const rows = (await pve.api.nodes.$('lab').lxc.$get()) as unknown as { vmid: number; tags?: string }[]
  return rows
    .flatMap(({ vmid, tags }) => {
      const marks = fromTags(Number(vmid), tags)
      return marks?.image === 'rock' ? [`${marks.state} ${marks.version}`] : []
    })
    .sort()
}
/** Waits until a version is not at the fixed VMID any more. */
const gone = async (version: string) => {
  for (;;) {
    const config = await configIfThere(pve, at(FIXED))
    if (config === undefined || fromTags(FIXED, config.tags)?.version !== version) return
  }
}
const windowIn = (events: readonly Event[]) =>
  events.find((event) => event.type === 'step.end' && event.step === 'swap')

describe('a fixed VMID', () => {
  test('that a definition gets later: what is current moves there, and nothing is rebuilt', async () => {
    await project.write(definition(`{ keep: 3, tags: [golden], description: Rock, vmid: ${FIXED} }`))
    const { exitCode, result, stderr } = await project.run(['rock'])
    expect(exitCode, stderr).toBe(0)
    expect(result).toMatchObject({ status: 'unchanged', template: { vmid: FIXED, version: versions[0] } })
    expect(result.swapSeconds).toBeUndefined()
    expect(await resolve()).toBe(FIXED)
    expect(await ours()).toEqual([`current ${versions[0]}`])
    const again = await project.run(['rock'])
    expect(windowIn(again.events)).toBeUndefined()
  })

  test('the next version gets it, the one before lies in the range', async () => {
    const before = await readConfig(pve, at(FIXED))
    const { exitCode, result, stderr, events } = await project.run(['rock', '--force'])
    expect(exitCode, stderr).toBe(0)
    versions.push(result.template?.version as string)
    expect(result).toMatchObject({ status: 'built', template: { vmid: FIXED, name: `rock-${versions[1]}` } })
    expect(result.swapSeconds).toBeGreaterThan(0)
    expect(windowIn(events)).toMatchObject({ ok: true })
    process.stdout.write(`nothing was at VMID ${FIXED} for ${result.swapSeconds?.toFixed(2)} s\n`)
    expect(await ours()).toEqual([`current ${versions[1]}`, `previous ${versions[0]}`])
    const now = await readConfig(pve, at(FIXED))
    expect(now).toMatchObject({ template: 1, hostname: `rock-${versions[1]}`, cores: before.cores })
    expect(now.tags?.split(';')).toEqual(expect.arrayContaining(['golden', `ib-id-${FIXED}`]))
    expect(now.description?.startsWith('Rock\n')).toBe(true)
    expect(parseNote(FIXED, now.description)).toMatchObject({
      version: versions[1],
      previous: await resolve('previous'),
    })
    const text = await readFile(join(project.root, 'imagebuild.lock.json'), 'utf8')
    expect(JSON.parse(text)).toMatchObject({ targets: { lab: { rock: { templates: { lab: FIXED } } } } })
  })

  test('a rollback puts the one before there, and says how long nothing was', async () => {
    const { exitCode, stdout, stderr } = await project.imagebuild(['rollback', 'rock'])
    expect(exitCode, stderr).toBe(0)
    expect(stdout).toMatch(
      new RegExp(
        `^rock: ${versions[1]} → ${versions[0]} \\(CT ${FIXED} on lab\\), held; VMID ${FIXED} was away for [\\d.]+s$`,
      ),
    )
    expect(await versionAt(FIXED)).toBe(versions[0])
    const { result } = await project.run(['rock'])
    expect(result).toMatchObject({ status: 'unchanged', held: true, template: { vmid: FIXED } })
    const undone = await project.imagebuild(['promote', 'rock@previous'])
    expect(undone.exitCode, undone.stderr).toBe(0)
    expect(await versionAt(FIXED)).toBe(versions[1])
    expect(await ours()).toEqual([`current ${versions[1]}`, `previous ${versions[0]}`])
  })

  test('a clone of it starts, and is nobody’s business', async () => {
    const { lxc } = pve.api.nodes.$('lab')
    const upid = (await lxc.$(FIXED).clone.$post({ newid: 540, full: true, hostname: 'theirs' })) as string
    await pve.waitTask(upid, { seconds: 300 })
    await pve.waitTask((await lxc.$(540).status.start.$post()) as string, { seconds: 60 })
    const { stdout } = await project.imagebuild(['prune'])
    expect(stdout).toBe('')
    expect(await configIfThere(pve, at(540))).toBeDefined()
  })

  test('killed while nothing is there: resolve gives the copy, and prune finishes it', async () => {
    const running = project.imagebuild(['run', 'rock', '--force', '--json'])
    await untilEvent(running, (event) => event.type === 'step.start' && event.step === 'swap')
    await gone(versions[1] as string)
    running.kill('SIGKILL')
    await running
    const copy = await resolve()
    expect(copy).not.toBe(FIXED)
    expect(await versionAt(copy)).toBe(versions[1])
    expect((await readConfig(pve, at(copy))).template).toBe(1)
    const { exitCode, stdout, stderr } = await project.imagebuild(['prune'])
    expect(exitCode, stderr).toBe(0)
    expect(stdout).toMatch(
      new RegExp(`^finished the swap of VMID ${FIXED} of rock: (\\S+) was on its way to it$`, 'm'),
    )
    const version = (await versionAt(FIXED)) as string
    expect(versions).not.toContain(version)
    expect(await resolve()).toBe(FIXED)
    expect(await ours()).toEqual([`current ${version}`, `previous ${versions[1]}`, `retired ${versions[0]}`])
    expect((await project.run(['rock'])).result).toMatchObject({
      status: 'unchanged',
      template: { vmid: FIXED },
    })
    expect((await project.imagebuild(['prune'])).stdout).toBe('')
  })

  test('that somebody has already is refused before anything is built', async () => {
    await project.write(definition('{ vmid: 540 }'))
    const { exitCode, result, events } = await project.run(['rock', '--force'])
    expect(exitCode).toBe(1)
    expect(result.error).toMatchObject({
      why: expect.stringMatching(/^CT 540 \(theirs\) on lab is no template of rock/),
    })
    expect(events.filter(({ type }) => type === 'step.start')).toEqual([])
    expect(await resolve()).toBe(FIXED)
  })
})
