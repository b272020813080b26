import { ImagebuildError } from '../../core/errors.ts'
import { createBus } from '../../core/events.ts'
import { readConfig } from '../../definition/config.ts'
import { findConfig } from '../../definition/find.ts'
import { imageTemplates, readNote, select } from '../../pve/templates.ts'
import { forgetFailures } from '../ci-note.ts'
import type { Invocation } from '../invocation.ts'
import { eventLines, print } from '../output.ts'
import { plainRenderer } from '../render.ts'
import { connectTarget, onTarget } from '../target.ts'

/** Forgets an image's failures, so that the next scheduled run works on it again. */
export async function ciResume(
  invocation: Invocation,
  image: string,
  options: { target?: string },
): Promise<void> {
  const config = await readConfig(await findConfig(process.cwd(), invocation.config))
  const emit = createBus(invocation.secrets, [plainRenderer(eventLines)])
  await using connected = await connectTarget(invocation, { ...config, fixedVmids: [] }, options.target, emit)
  const { pve, places } = connected
  const nodes = places.map(({ node }) => node)
  const all = await imageTemplates(pve, { namespace: config.namespace, image, nodes })
  const current = nodes.flatMap((node) => select(all, image, 'current', node) ?? [])
  if (current.length === 0) {
    throw new ImagebuildError({
      code: 'not_found',
      what: `there is no current template of ${image}`,
      why: 'failures are remembered in its note: without one nothing is paused',
      next: `imagebuild ci run ${image}${onTarget(options.target)}`,
    })
  }
  const notes = await Promise.all(current.map((template) => readNote(pve, template)))
  const failing = current.filter((_, index) => notes[index]?.failures !== undefined)
  await forgetFailures(pve, failing)
  const next = `imagebuild ci run ${image}${onTarget(options.target)}`
  print(failing.length === 0 ? `${image} was not paused\n` : `${image} is worked on again; now: ${next}\n`)
}
