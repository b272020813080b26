import type { HardeningFile, ItemCheck } from '../item.ts'

/**
 * Settings of systemd's daemons. Packages bring drop-ins of their own (Debian 13 has one for journald), which win over the
 * daemon's main file; of all drop-ins, whatever folder they are in, the last one by name wins.
 */
type Settings = Readonly<Record<string, string>>

/** @param daemon whose file it is: `journald`, or `system` and `user` for systemd itself */
export function dropInPath(daemon: string, name: string): string {
  return `/etc/systemd/${daemon}.conf.d/zz-imagebuild-${name}.conf`
}

export function lastDropIn(
  daemon: string,
  name: string,
  { section, settings, comment }: { section: string; settings: Settings; comment: string },
): HardeningFile {
  const lines = Object.entries(settings).map(([key, value]) => `${key}=${value}`)
  return {
    path: dropInPath(daemon, name),
    content: [`# ${comment}`, `[${section}]`, ...lines, ''].join('\n'),
  }
}

/** A command that prints the line that counts. */
export function effectiveLine(daemon: string, key: string): string {
  return `systemd-analyze cat-config systemd/${daemon}.conf | grep -E '^${key}=' | tail -n 1`
}

/** One check for each setting, of what counts after all drop-ins. */
export function effective(daemon: string, settings: Settings, title: (key: string) => string): ItemCheck[] {
  return Object.entries(settings).map(([key, value]) => ({
    title: title(key),
    kind: 'command',
    // One answer for all settings of a daemon; the last line counts.
    command: `systemd-analyze cat-config systemd/${daemon}.conf`,
    exit: 0,
    output: `^${key}=${value.replaceAll('.', '\\.')}$(?![\\s\\S]*^${key}=)`,
  }))
}
