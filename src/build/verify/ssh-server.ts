import type { Examiner } from './examiner.ts'
import { type Facts, one, readFacts } from './facts.ts'
import { attempt } from './login-cases.ts'
import type { Credentials, OpenSshClient } from './openssh-client.ts'
import type { Result } from './report.ts'

/**
 * That a clone starts its SSH server in one way, and still has it after a reload, which is what an upgrade of the package
 * does. With two ways systemd has the port that sshd wants for itself then.
 */
export async function judgeSshServer(
  door: { client: OpenSshClient; inside: { examiner: Examiner; user: string; by: Credentials } },
  signal: AbortSignal,
): Promise<Result[]> {
  const { client, inside } = door
  const facts = await readFacts(inside.examiner, 'ssh-server.sh', {
    env: { PORT: String(client.port) },
    signal,
  })
  // What counts is that somebody gets in, from outside.
  const login = await attempt(client, inside.user, inside.by, signal)
  return judgeFacts(facts, login.outcome === 'accepted' ? undefined : login.why)
}

/** @param refusal why nobody got in after the reload; undefined: somebody did */
export function judgeFacts(facts: Facts, refusal: string | undefined): Result[] {
  const result = (id: string, title: string, found: string | undefined): Result => ({
    group: 'health',
    id,
    title,
    sources: [],
    ...(found === undefined ? { outcome: 'passed' } : { outcome: 'failed', found }),
  })
  return [
    result(
      'ssh-unit',
      'one unit of systemd starts the SSH server, and not two',
      judgeUnits(one(facts, 'enabled')),
    ),
    result(
      'ssh-reload',
      'the SSH server still lets in when it was reloaded',
      judgeReload(facts) ?? (refusal && `nobody gets in any more: ${refusal}`),
    ),
  ]
}

function judgeUnits(enabled: string): string | undefined {
  const units = enabled.split('\n').filter((unit) => unit !== '')
  if (units.length < 2) return undefined
  return `${units.join(' and ')} are enabled: systemd holds the port that sshd wants when it is reloaded; disable one of them in a layer`
}

function judgeReload(facts: Facts): string | undefined {
  if (one(facts, 'reloaded') === '' || one(facts, 'listens') === 'yes') return undefined
  const words = [one(facts, 'said'), one(facts, 'journal')].filter((text) => text !== '')
  return [`nobody listens after \`systemctl reload ${one(facts, 'reloaded')}\``, ...words].join('\n')
}
