import { type AuditedClone, withPackages } from './on-clone.ts'

/** The lynis of the clone's own release, run on it as root. */
export interface Lynis {
  version: string
  /** 0 to 100 */
  index: number
  /** one line each: `SSH-7408: Consider hardening SSH configuration` */
  warnings: string[]
  suggestions: string[]
}

const REPORT = '/var/log/lynis-report.dat'

/** It is gone from the clone afterwards, with its logs. */
export async function runLynis(clone: AuditedClone, work: string, signal: AbortSignal): Promise<Lynis> {
  return await withPackages(clone, ['lynis'], work, signal, async () => {
    await clone.run('sudo lynis audit system --quick --quiet --no-colors')
    const report = await clone.run(`sudo cat ${REPORT}`)
    await clone.run(`sudo rm -f ${REPORT} /var/log/lynis.log`)
    return parseLynis(report)
  })
}

/** @param report lines of `key=value` and `list[]=value|value|…` */
export function parseLynis(report: string): Lynis {
  const values = report.split('\n').flatMap((line) => {
    const at = line.indexOf('=')
    return at < 1 || line.startsWith('#') ? [] : [[line.slice(0, at), line.slice(at + 1)] as const]
  })
  const one = (key: string) => {
    const found = values.find(([name]) => name === key)
    if (found === undefined) throw new Error(`the report of lynis has no ${key}: it has not come to its end`)
    return found[1]
  }
  const list = (key: string) =>
    values
      .filter(([name]) => name === `${key}[]`)
      .map(([, value]) => {
        const [test, text] = value.split('|')
        return `${test}: ${text}`
      })
  return {
    version: one('lynis_version'),
    index: Number(one('hardening_index')),
    warnings: list('warning'),
    suggestions: list('suggestion'),
  }
}
