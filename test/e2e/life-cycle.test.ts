import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Locked } from '../../src/cli/lockfile.ts'
import type { Pve } from '../../src/pve/client.ts'
import { destroyGuest } from '../../src/pve/destroy.ts'
import { BOOTSTRAP, labClient, makeProject, type Project } from './harness.ts'

/** Versions of one image: kept, rolled back, promoted, pruned, beside what users have made of them. */

let project: Project
let pve: Pve
const versions: string[] = []
const vmids: number[] = []

beforeAll(async () => {
  project = await makeProject({
    'images/tiny/image.yaml': `name: tiny\nkind: lxc\n${BOOTSTRAP}\nhardware: { rootfs: 2G }\ntemplate: { keep: 3 }\n`,
  })
  for (let n = 0; n < 3; n += 1) {
    const { exitCode, result, stderr } = await project.run(['tiny', '--force'])
    expect(exitCode, stderr).toBe(0)
    versions.push(result.template?.version as string)
    vmids.push(result.template?.vmid as number)
  }
  pve = await labClient()
})

afterAll(async () => {
  const signal = AbortSignal.timeout(120_000)
  for (const vmid of [530, 531, ...vmids]) await destroyGuest(pve, { kind: 'lxc', node: 'lab', vmid, signal })
  await project[Symbol.asyncDispose]()
})

const vmidOf = async (selector: string) => (await project.imagebuild(['resolve', `tiny@${selector}`])).stdout
const locked = async () => {
  const text = await readFile(join(project.root, 'imagebuild.lock.json'), 'utf8')
  return (JSON.parse(text) as { targets: { lab: Record<string, Locked> } }).targets.lab.tiny
}
const history = async () => {
  const { stdout } = await project.imagebuild(['history', 'tiny', '--json'])
  return (JSON.parse(stdout) as { version: string; state: string; held: boolean; turn: number }[]).map(
    ({ version, state, held, turn }) => [version, state, turn, held] as const,
  )
}

async function cloneOf(template: number, newid: number): Promise<void> {
  const { lxc } = pve.api.nodes.$('lab')
  const upid = (await lxc.$(template).clone.$post({ newid, full: true, hostname: `user-${newid}` })) as string
  await pve.waitTask(upid, { seconds: 300 })
}

describe('versions of an image', () => {
  test('are in its history, the newest current', async () => {
    expect(await history()).toEqual([
      [versions[2], 'current', 3, false],
      [versions[1], 'previous', 2, false],
      [versions[0], 'retired', 1, false],
    ])
    expect(await locked()).toMatchObject({
      ...{ version: versions[2], kind: 'lxc', templates: { lab: vmids[2] } },
    })
  })

  test('a rollback is at once, and run leaves it', async () => {
    const { exitCode, stdout, stderr } = await project.imagebuild(['rollback', 'tiny'])
    expect(exitCode, stderr).toBe(0)
    expect(stdout).toBe(`tiny: ${versions[2]} → ${versions[1]} (CT ${vmids[1]} on lab), held`)
    expect(stderr).toContain('imagebuild promote tiny@previous')
    expect([await vmidOf('current'), await vmidOf('previous')]).toEqual([`${vmids[1]}`, `${vmids[2]}`])
    const { result } = await project.run(['tiny'])
    expect(result).toMatchObject({ status: 'unchanged', held: true, template: { vmid: vmids[1] } })
    expect(await locked()).toMatchObject({ version: versions[1], templates: { lab: vmids[1] } })
    const offline = await project.imagebuild(['resolve', 'tiny', '--locked'])
    expect(offline.stdout).toBe(`${vmids[1]}`)
  })

  test('what it was rolled back from can be promoted again', async () => {
    const { exitCode, stdout } = await project.imagebuild(['promote', 'tiny@previous'])
    expect([exitCode, stdout]).toEqual([0, `tiny: ${versions[1]} → ${versions[2]} (CT ${vmids[2]} on lab)`])
    expect(await history()).toEqual([
      [versions[2], 'current', 5, false],
      [versions[1], 'previous', 4, false],
      [versions[0], 'retired', 1, false],
    ])
    const { result } = await project.run(['tiny'])
    expect(result).toMatchObject({ status: 'unchanged', held: false, template: { vmid: vmids[2] } })
    expect((await project.imagebuild(['promote', 'tiny@20200101.1'])).exitCode).toBe(1)
  })

  test('prune removes what is beyond those kept, and nothing that users have made of it', async () => {
    await cloneOf(vmids[0] as number, 530)
    await cloneOf(vmids[2] as number, 531)
    const { lxc } = pve.api.nodes.$('lab')
    // A user's own template: tags and note came along.
    await lxc.$(531).template.$post()
    await project.write({
      'images/tiny/image.yaml': `name: tiny\nkind: lxc\n${BOOTSTRAP}\nhardware: { rootfs: 2G }\ntemplate: { keep: 2 }\n`,
    })
    await lxc.$(vmids[0] as number).config.$put({ protection: true })
    const spared = await project.imagebuild(['prune', '--dry-run'])
    const line = `version CT ${vmids[0]} of tiny: ${versions[0]} is older than the 2 versions that are kept`
    expect(spared.stdout).toBe(`spared ${line}, but it is protected`)
    await lxc.$(vmids[0] as number).config.$put({ protection: false })
    expect((await project.imagebuild(['prune', '--dry-run'])).stdout).toBe(`would remove ${line}`)
    expect((await project.imagebuild(['prune'])).stdout).toBe(`removed ${line}`)
    expect((await history()).map(([version]) => version)).toEqual([versions[2], versions[1]])
    const listed = (await project.imagebuild(['list', '--json'])).stdout
    const tiny = (JSON.parse(listed) as { image: string; vmid: number }[]).filter(
      ({ image }) => image === 'tiny',
    )
    expect(tiny.map(({ vmid }) => vmid)).toEqual([vmids[2], vmids[1]])
    const left = (await lxc.$get()) as unknown as { vmid: number }[]
    expect(left.map(({ vmid }) => Number(vmid))).toEqual(expect.arrayContaining([530, 531]))
    expect(await vmidOf('current')).toBe(`${vmids[2]}`)
  })
})
