import { readFile } from 'node:fs/promises'
import { decode, type Examiner, readLines } from './examiner.ts'

/** What a machine tells of itself (facts.sh): by name, as often as it was told. */
export type Facts = Map<string, string[]>

/** Seconds for looking, beyond the wait for the end of the boot. */
const LOOK_SECONDS = 120

export async function readFacts(
  examiner: Examiner,
  script: string,
  options: { env: Record<string, string>; seconds?: number; signal?: AbortSignal },
): Promise<Facts> {
  const { env, seconds = LOOK_SECONDS, signal } = options
  const text = await readFile(new URL(script, import.meta.url), 'utf8')
  const { stdout } = await examiner.run(text, { asRoot: true, env, seconds, ...(signal && { signal }) })
  const facts: Facts = new Map()
  for (const { fact, value } of readLines<{ fact: string; value: string }>(stdout))
    facts.set(fact, [...(facts.get(fact) ?? []), decode(value).trim()])
  return facts
}

/**
 * Who it is, and with `settle` also how it is.
 * @param settle seconds to wait for the end of its boot; 0: not at all
 */
export async function machineFacts(examiner: Examiner, settle: number, signal: AbortSignal): Promise<Facts> {
  return await readFacts(examiner, 'facts.sh', {
    env: { ROOT: '', SETTLE: String(Math.ceil(settle)) },
    seconds: 2 * settle + LOOK_SECONDS,
    signal,
  })
}

export function one(facts: Facts, name: string): string {
  return facts.get(name)?.[0] ?? ''
}

export function all(facts: Facts, name: string): string[] {
  return facts.get(name) ?? []
}
