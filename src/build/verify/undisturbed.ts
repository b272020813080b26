import { pauses } from '../../core/pauses.ts'
import type { Build } from '../context.ts'

/**
 * Does the work, and once more where it went wrong and this process has paused in the middle of it: clones have gone on
 * meanwhile, certificates have run out, connections have died. That says nothing about the template.
 * @param isGood judges a result; what the work throws is never good
 */
export async function undisturbed<T>(
  { image, emit, signal }: Pick<Build, 'image' | 'emit' | 'signal'>,
  work: () => Promise<T>,
  isGood: (result: T) => boolean,
): Promise<T> {
  for (;;) {
    const { count } = pauses
    const wasDisturbed = () => {
      pauses.look()
      return pauses.count !== count && !signal.aborted
    }
    try {
      const result = await work()
      if (isGood(result) || !wasDisturbed()) return result
    } catch (error) {
      if (!wasDisturbed()) throw error
    }
    const message = 'this process has paused while the template was verified: it is verified once more'
    emit({ type: 'info', image: image.name, message })
  }
}
