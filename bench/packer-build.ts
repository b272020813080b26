import { createHash } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { machineAccess } from '../src/build/access.ts'
import type { VmSpec } from '../src/definition/spec.ts'
import { chooseAccelerator } from '../src/lab/accelerator.ts'
import { benchSeed } from './bench-seed.ts'
import { packerTemplate } from './packer-template.ts'
import { type Phase, type TimedBuild, timeBuild } from './timed-build.ts'
import { ROOT, type Workspace } from './workspace.ts'

/** What `packer build` needs, in files. */
export interface PackerJob {
  template: string
  output: string
  folder: string
}

/** Writes template, seed and keys. */
export async function preparePacker(
  workspace: Workspace,
  image: VmSpec,
  disk: string,
  signal: AbortSignal,
): Promise<PackerJob> {
  const folder = join(workspace.folder, 'packer')
  await mkdir(folder)
  const run = createHash('sha256').update(folder).digest('hex').slice(0, 8)
  const { access } = await machineAccess(run, signal)
  const at = (name: string) => join(folder, name)
  await writeFile(at('key'), access.userKey.privateKey, { mode: 0o600 })
  await writeFile(at('seed.iso'), benchSeed(image, access))
  const { json, files } = packerTemplate({
    image,
    accelerator: await chooseAccelerator(),
    disk,
    seed: at('seed.iso'),
    user: access.user,
    privateKey: at('key'),
    publicKey: access.userKey.publicKey.split(' ')[1] ?? '',
    seal: join(ROOT, 'src/build/seal.sh'),
    output: at('output'),
    files: folder,
  })
  for (const { path, content } of files) await writeFile(path, content)
  await writeFile(at('template.json'), JSON.stringify(json, undefined, 2))
  return { template: at('template.json'), output: at('output'), folder }
}

/** Builds the image once, and removes the artifact afterwards. */
export async function packerBuild(job: PackerJob, signal: AbortSignal): Promise<TimedBuild> {
  try {
    return await timeBuild({
      command: 'packer',
      args: ['build', '-color=false', job.template],
      cwd: job.folder,
      // It must neither ask HashiCorp for newer versions nor keep anything in the user's folders.
      env: {
        CHECKPOINT_DISABLE: '1',
        PACKER_CACHE_DIR: join(job.folder, 'cache'),
        PACKER_CONFIG_DIR: job.folder,
      },
      phaseOf: phases(),
      signal,
    })
  } finally {
    await rm(job.output, { recursive: true, force: true })
  }
}

/** By what Packer says when a phase begins. Its provisioners say the same each time: the first is cloud-init's. */
function phases(): (line: string) => Phase | undefined {
  let provisioners = 0
  return (line) => {
    if (/: (Provisioning with shell script|Uploading )/.test(line)) {
      provisioners += 1
      return provisioners === 1 ? 'cloud-init' : 'layers'
    }
    return SAID.find(([said]) => said.test(line))?.[1]
  }
}

const SAID: readonly [RegExp, Phase][] = [
  [/: Retrieving (ISO|Image)/i, 'source'],
  [/: (Copying hard drive|Resizing hard drive|Creating hard drive)/i, 'create'],
  [/: Starting VM/, 'boot'],
  [/: Gracefully halting/, 'seal'],
  [/: sealed$/, 'shutdown'],
  [/: Converting hard drive/, 'convert'],
  [/^Build '.*' finished/, 'end'],
]
