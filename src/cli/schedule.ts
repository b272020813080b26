import pLimit from 'p-limit'

/**
 * Works on named things, at most `parallel` at once, each as soon as what it starts from has ended, well or not. What
 * has no parent among them waits for nobody.
 * @param names parents before their children
 * @param work gets the result of the parent
 * @returns results in the order of `names`
 */
export async function inOrder<T>(
  names: readonly string[],
  { parallel, parentOf }: { parallel: number; parentOf: (name: string) => string | undefined },
  work: (name: string, parent: T | undefined) => Promise<T>,
): Promise<T[]> {
  const limit = pLimit(parallel)
  const running = new Map<string, Promise<T>>()
  for (const name of names) {
    const parent = running.get(parentOf(name) ?? '')
    const turn = async () => {
      const result = await parent
      return await limit(() => work(name, result))
    }
    running.set(name, turn())
  }
  return await Promise.all(running.values())
}
