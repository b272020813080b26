import { createHash, randomBytes } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Fields } from './client.ts'
import { isOwnVolume, ownFile } from './own.ts'
import { volumesInRange } from './server.ts'
import { ended, NO_SMALL, NO_WEB, startTarget, type Target } from './target.ts'

/** Clause 16 of pve.md: how files and disks come onto a storage, and what happens when it is full. */

const MiB = 1 << 20

let target: Target
let nodePath: string
let web: Server
let base: string
/** more than the small storage takes */
const image = randomBytes(3 * MiB)

beforeAll(async () => {
  target = await startTarget()
  nodePath = `/nodes/${target.node}`
  web = createServer((request, response) => {
    if (request.url !== '/image.raw') return response.writeHead(404).end()
    return response.writeHead(200, { 'content-length': image.length }).end(image)
  })
  const host = target.web ?? '127.0.0.1'
  await new Promise<void>((resolve) => web.listen(0, host, resolve))
  base = `http://${host}:${(web.address() as AddressInfo).port}`
})
afterAll(async () => {
  web.close()
  web.closeAllConnections()
  await target?.stop()
})

/** A test that fails leaves its files to no other. */
afterEach(async () => {
  const files = (await volumesInRange(target)).filter(({ volid }) => /:(?:iso|import)\//.test(volid))
  for (const { storage, volid } of files) await remove(storage, volid)
})

/** A port that a server has had a moment ago. */
async function closedPort(): Promise<{ host: string; closed: number }> {
  const host = target.web ?? '127.0.0.1'
  const gone = createServer()
  await new Promise<void>((resolve) => gone.listen(0, host, resolve))
  const { port: closed } = gone.address() as AddressInfo
  await new Promise((resolve) => gone.close(resolve))
  return { host, closed }
}

async function content(storage: string): Promise<{ volid: string; size: number; format: string }[]> {
  return (await target.client.get(`${nodePath}/storage/${storage}/content`)).body.data
}

/** The suite's: what else there is belongs to others. */
async function volids(storage: string): Promise<string[]> {
  const all = (await content(storage)).map(({ volid }) => volid)
  return all.filter((volid) => isOwnVolume(target.own, volid)).sort()
}

async function remove(storage: string, volid: string): Promise<void> {
  const path = `${nodePath}/storage/${storage}/content/${encodeURIComponent(volid)}`
  expect((await target.client.delete(path, { delay: 10 })).status).toBe(200)
}

function upload(storage: string, type: string, what: string, data = image) {
  const name = ownFile(target.own, what)
  return target.client.upload(`${nodePath}/storage/${storage}/upload`, [
    ['content', type],
    ['filename', { name, data }],
  ])
}

async function create(fields: Fields): Promise<{ vmid: number; exitstatus: string; log: string[] }> {
  const vmid = await target.vmid()
  const task = await ended(target, await target.client.post(`${nodePath}/qemu`, { vmid, ...fields }))
  return { vmid, ...task }
}

async function destroy(vmid: number): Promise<void> {
  expect((await ended(target, await target.client.delete(`${nodePath}/qemu/${vmid}`))).exitstatus).toBe('OK')
}

describe('downloads by the node', () => {
  const download = async (name: string, more: Fields = {}) => {
    const filename = ownFile(target.own, name)
    const fields = { content: 'import', url: `${base}/image.raw`, filename, ...more }
    const path = `${nodePath}/storage/${target.files}/download-url`
    return ended(target, await target.client.post(path, fields))
  }

  test('16.1 come with their checksum checked, and never replace a file', async ({ skip }) => {
    if (target.web === undefined) return skip(NO_WEB)
    const volid = `${target.files}:import/${ownFile(target.own, 'fetched.raw')}`
    const checksum = createHash('sha512').update(image).digest('hex')
    expect(await download('fetched.raw', { checksum, 'checksum-algorithm': 'sha512' })).toMatchObject({
      exitstatus: 'OK',
    })
    expect((await content(target.files)).find((volume) => volume.volid === volid)).toMatchObject({
      format: 'raw',
      size: image.length,
    })
    expect((await download('fetched.raw')).exitstatus).toMatch(/^refusing to override existing file '.*'$/)
    await remove(target.files, volid)
  })

  test('16.2 fail in the task, and leave nothing', async ({ skip }) => {
    if (target.web === undefined) return skip(NO_WEB)
    const wrong = await download('wrong.raw', { checksum: 'ab', 'checksum-algorithm': 'md5' })
    expect(wrong.exitstatus).toMatch(/^checksum mismatch: got '[0-9a-f]{32}' != expect 'ab'$/)
    const missing = await download('missing.raw', { url: `${base}/missing` })
    expect(missing.exitstatus).toBe('download failed: exit code 8')
    expect(missing.log.join('\n')).toContain('ERROR 404: Not Found.')
    const { host, closed } = await closedPort()
    const dead = await download('dead.raw', { url: `http://${host}:${closed}/x` })
    expect(dead.exitstatus).toBe(
      `download failed: Connecting to ${host}:${closed}... failed: Connection refused.`,
    )
    const junk = await download('junk.qcow2')
    expect(junk.exitstatus).toMatch(/Image is not in qcow2 format/)
    expect(await volids(target.files)).toEqual([])
  })

  test('16.3 are named by query-url-metadata', async ({ skip }) => {
    if (target.web === undefined) return skip(NO_WEB)
    const query = (url: string) => target.client.get(`${nodePath}/query-url-metadata`, { url })
    expect((await query(`${base}/image.raw`)).body.data).toMatchObject({
      filename: 'image.raw',
      size: image.length,
    })
    expect((await query(`${base}/missing`)).reason).toBe("invalid server response: '404 Not Found'")
  })
})

describe('imports', () => {
  test('16.4 keep their format in a folder, unless asked otherwise, and are raw on block storage', async () => {
    expect(await ended(target, await upload(target.files, 'import', 'source.raw'))).toMatchObject({
      exitstatus: 'OK',
    })
    const source = `${target.files}:import/${ownFile(target.own, 'source.raw')}`
    const { vmid, exitstatus } = await create({
      scsi0: `${target.files}:0,import-from=${source}`,
      scsi1: `${target.files}:0,import-from=${source},format=qcow2`,
      ...(target.block !== undefined && { scsi2: `${target.block}:0,import-from=${source}` }),
    })
    expect(exitstatus).toBe('OK')
    const config = (await target.client.get(`${nodePath}/qemu/${vmid}/config`)).body.data as Record<
      string,
      string
    >
    expect(config.scsi0).toMatch(/-disk-\d\.raw,size=3M$/)
    expect(config.scsi1).toMatch(/-disk-\d\.qcow2,size=3M$/)
    // Rounded up to whole extents.
    if (target.block !== undefined) expect(config.scsi2).toMatch(/:vm-\d+-disk-\d,size=4M$/)
    await destroy(vmid)
    await remove(target.files, source)
  })
})

describe('a full storage', () => {
  const smallStorage = (skip: (why: string) => void) => {
    if (target.small === undefined) skip(NO_SMALL)
    return target.small as string
  }

  test('16.5 fails an upload in its task', async ({ skip }) => {
    const small = smallStorage(skip)
    const reply = await upload(small, 'iso', 'large.iso', randomBytes(6 * MiB))
    expect((await ended(target, reply)).exitstatus).toMatch(
      /^import failed: cp: error writing '.*large\.iso': No space left on device$/,
    )
    expect(await volids(small)).toEqual([])
  })

  test('16.5 fails a download in its task', async ({ skip }) => {
    const small = smallStorage(skip)
    const path = `${nodePath}/storage/${small}/download-url`
    const fetch = (name: string) => {
      const filename = ownFile(target.own, name)
      return target.client.post(path, { content: 'import', url: `${base}/image.raw`, filename })
    }
    expect((await ended(target, await fetch('one.raw'))).exitstatus).toBe('OK')
    expect((await ended(target, await fetch('two.raw'))).exitstatus).toMatch(
      /^download failed: Cannot write to '.*two\.raw\.tmp_dwnl\.\d+' \(No space left on device\)\.$/,
    )
    expect(await volids(small)).toEqual([`${small}:import/${ownFile(target.own, 'one.raw')}`])
    await remove(small, `${small}:import/${ownFile(target.own, 'one.raw')}`)
  })

  test('16.5 fails a create with an import, and leaves neither guest nor disk', async ({ skip }) => {
    const small = smallStorage(skip)
    await ended(target, await upload(target.files, 'import', 'source.raw'))
    const drive = `${small}:0,import-from=${target.files}:import/${ownFile(target.own, 'source.raw')}`
    const { vmid, exitstatus } = await create({ scsi0: drive, scsi1: drive })
    expect(exitstatus).toMatch(
      new RegExp(
        `^unable to create VM ${vmid} - cannot import from '.*' - copy failed: command '.*' failed: exit code 1$`,
      ),
    )
    expect((await target.client.get(`${nodePath}/qemu/${vmid}/config`)).status).toBe(500)
    expect(await volids(small)).toEqual([])
    await remove(target.files, `${target.files}:import/${ownFile(target.own, 'source.raw')}`)
  })

  test('16.5 fails a move, and leaves the disk where it was', async ({ skip }) => {
    const small = smallStorage(skip)
    await ended(target, await upload(target.files, 'import', 'source.raw', randomBytes(6 * MiB)))
    const { vmid } = await create({
      scsi0: `${target.files}:0,import-from=${target.files}:import/${ownFile(target.own, 'source.raw')}`,
    })
    const move = { disk: 'scsi0', storage: small, delete: 1 }
    const task = await ended(target, await target.client.post(`${nodePath}/qemu/${vmid}/move_disk`, move))
    expect(task.exitstatus).toMatch(/^storage migration failed: copy failed: /)
    const config = (await target.client.get(`${nodePath}/qemu/${vmid}/config`)).body.data as { scsi0: string }
    expect(config.scsi0).toMatch(new RegExp(`^${target.files}:`))
    expect(await volids(small)).toEqual([])
    await destroy(vmid)
    await remove(target.files, `${target.files}:import/${ownFile(target.own, 'source.raw')}`)
  })
})
