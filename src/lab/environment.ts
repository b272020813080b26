import { delimiter } from 'node:path'

/**
 * What the lab's daemon, and so all that it starts, gets of the environment of whoever starts it: where programs and files
 * are, language, time zone, the lab's own settings, and how to reach the outside. It outlives its caller, whose tokens are
 * none of its business.
 */
const KEPT =
  /^(PATH|HOME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|IMAGEBUILD_LAB_\w+|(https?|ftp|all|no)_proxy|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS)$/

/** Programs read them in either case. */
const PROXY = /^(HTTPS?|FTP|ALL|NO)_PROXY$/

export function daemonEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => KEPT.test(name) || PROXY.test(name))
  return { ...Object.fromEntries(kept), PATH: pathWithSbin(env) }
}

/** System tools lie in sbin, which is not on everybody's path. */
export function pathWithSbin(env: NodeJS.ProcessEnv): string {
  return [...(env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'].join(delimiter)
}
