import { join } from 'node:path'
import { beginBuild } from '../../src/build/context.ts'
import { signerOf } from '../../src/build/signer.ts'
import { formatReport, type Report } from '../../src/build/verify/report.ts'
import { verify } from '../../src/build/verify/verify.ts'
import { connectTarget } from '../../src/cli/target.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'
import { loadProject } from '../../src/definition/load.ts'
import type { ImageSpec } from '../../src/definition/spec.ts'
import { makePlan } from '../../src/plan/plan.ts'
import { claimImage } from '../../src/pve/claim.ts'
import { thisOwner } from '../../src/pve/owner.ts'
import { nodeTemplates, type Template } from '../../src/pve/templates.ts'
import { CACHE_DIR, LAB_DIR, type Project } from './harness.ts'

/**
 * Verifies a template of the lab as a run of its image would, in this process.
 * @param vmid of the template, which need not be the image's own
 * @param how without `signer`, nobody can sign for the configured CA; without `logins`, none is configured
 */
export async function verifyTemplate(
  project: Project,
  name: string,
  vmid: number,
  { signer = true, logins = true, signal = new AbortController().signal } = {},
): Promise<Report> {
  process.env.IMAGEBUILD_LAB_DIR = LAB_DIR
  const loaded = await loadProject(join(project.root, 'imagebuild.yaml'), {
    images: [name],
    releases: { vm: [], lxc: [] },
    hardeningItems: [],
    endOfLife: () => undefined,
  })
  const image = loaded.images.get(name) as ImageSpec
  const secrets = new SecretRegistry()
  await using target = await connectTarget(
    { version: 'test', secrets, signal, debug: false },
    loaded,
    'lab',
    () => {},
  )
  const { pve, place } = target
  const namespace = loaded.namespace
  const build = beginBuild(
    {
      image,
      pve,
      place,
      namespace,
      options: { force: false, noCache: false, onError: 'cleanup', verify: 'full' },
      secrets,
      emit: () => {},
      signal,
      cacheDir: CACHE_DIR,
      keptDir: join(project.root, 'kept'),
      ancestors: [],
      reportsDir: join(project.root, 'reports'),
      root: project.root,
      owner: await thisOwner(),
      tool: 'test',
    },
    signal,
  )
  await using claim = await claimImage(pve, { ...build, image: name, slot: 7, onLost: () => {} })
  const own = (await nodeTemplates(pve, place.node, namespace)).find(
    (one) => one.marks.image === name,
  ) as Template
  const { checks, left, certificates } = makePlan(image, {
    sourceIdentity: 'any',
    ssh: place.ssh,
  })
  const key = signer ? await signerOf(build, certificates) : undefined
  const report = await verify(build, claim, {
    template: { ...own, vmid },
    image,
    version: own.marks.version ?? '',
    checks,
    left,
    ssh: {
      ca: logins ? certificates.authorities : [],
      principals: certificates.principals,
      keys: { logins: [], without: '' },
      ...(key && { signer: key }),
    },
  })
  if (process.env.SHOW_REPORTS) process.stderr.write(formatReport(report))
  return report
}
