import { ImagebuildError } from '../../core/errors.ts'
import { createBus } from '../../core/events.ts'
import { readConfig } from '../../definition/config.ts'
import { findConfig } from '../../definition/find.ts'
import { allFixedVmids, readFixedVmid } from '../../definition/fixed-vmids.ts'
import { currentNodes, halfSwitched, rollbackVersion } from '../../pve/promotion.ts'
import { select, type Template } from '../../pve/templates.ts'
import type { Invocation } from '../invocation.ts'
import { LeftBehind } from '../left-behind.ts'
import { eventLines, print, tell } from '../output.ts'
import { plainRenderer } from '../render.ts'
import { type Switch, switchTo, templatesThere } from '../switching.ts'
import { connectTarget, onTarget } from '../target.ts'
import { tellPauses } from '../tell-pauses.ts'

/** Makes a version the current one, and ends a hold. */
export async function promoteCommand(
  invocation: Invocation,
  wanted: string,
  options: { target?: string },
): Promise<void> {
  const [image = '', selector = ''] = wanted.split('@')
  if (selector === '') {
    throw new ImagebuildError({
      code: 'usage',
      what: `which version of ${image}?`,
      next: `imagebuild promote ${image}@<version>, or ${image}@previous; imagebuild history ${image} shows them`,
    })
  }
  await using to = await openSwitch(invocation, image, options.target)
  const templates = await templatesThere(to)
  if (selector === 'previous') requireOneCurrent(templates, image)
  const found = select(templates, image, selector)
  const before = select(templates, image)
  if (found === undefined) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `there is no ${selector} template of ${image}`,
      next: `imagebuild history ${image} shows the versions that there are`,
    })
  }
  const version = found.marks.version ?? ''
  print(`${await switchTo(to, templates, { version, held: false })}\n`)
  if (before !== undefined && before.marks.version !== version)
    tell(`undo: imagebuild promote ${image}@${before.marks.version}${onTarget(options.target)}\n`)
}

/** @throws ImagebuildError where a switch was cut off between two nodes: what is previous on one is current on another */
function requireOneCurrent(templates: readonly Template[], image: string): void {
  const cutOff = halfSwitched(templates, image)
  if (cutOff === undefined) return
  const current = currentNodes(templates, image).map((node) => {
    const version = select(templates, image, 'current', node)?.marks.version ?? ''
    return { node, version }
  })
  throw new ImagebuildError({
    code: 'usage',
    what: `which version of ${image}? The nodes have different ones`,
    why: `making ${cutOff} current was cut off: ${current.map(({ node, version }) => `${node} has ${version}`).join(', ')}`,
    next: [...new Set(current.map(({ version }) => `imagebuild promote ${image}@${version}`))].join(', or '),
  })
}

/** Makes the version before the current one current again, until somebody promotes another or builds with --force. */
export async function rollbackCommand(
  invocation: Invocation,
  image: string,
  options: { target?: string },
): Promise<void> {
  await using to = await openSwitch(invocation, image, options.target)
  const templates = await templatesThere(to)
  const version = rollbackVersion(templates, image)
  if (version === undefined) {
    const current = select(templates, image)
    throw new ImagebuildError({
      code: 'not_found',
      what:
        current === undefined
          ? `there is no current template of ${image}`
          : `there is no version of ${image} before ${current.marks.version}`,
      next: `imagebuild history ${image} shows the versions that there are`,
    })
  }
  print(`${await switchTo(to, templates, { version, held: true })}\n`)
  tell(
    `run leaves it so until a version is promoted, or --force is given; undo: imagebuild promote ${image}@previous${onTarget(options.target)}\n`,
  )
}

async function openSwitch(
  invocation: Invocation,
  image: string,
  target: string | undefined,
): Promise<Switch & AsyncDisposable> {
  const left = new LeftBehind()
  const emit = createBus(invocation.secrets, [plainRenderer(eventLines), left.sink])
  const config = await readConfig(await findConfig(process.cwd(), invocation.config))
  const fixedVmids = allFixedVmids(config.root)
  const telling = tellPauses(emit)
  const connected = await connectTarget(invocation, { ...config, fixedVmids }, target, emit)
  const { root, namespace } = config
  return {
    ...{ root, namespace, image, emit, signal: connected.signal },
    tool: invocation.version,
    vmid: readFixedVmid(root, image),
    pve: connected.pve,
    places: connected.places,
    [Symbol.asyncDispose]: async () => {
      telling[Symbol.dispose]()
      tell(left.text())
      await connected[Symbol.asyncDispose]()
    },
  }
}
