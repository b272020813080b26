import { readdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { ImagebuildError } from '../core/errors.ts'
import { quote } from '../core/shell-word.ts'
import { AptComplaints, missingPackages } from './apt-failure.ts'
import { archiveLines, publicMirrors, type SystemFile } from './bootstrap-files.ts'
import { type BootstrapKind, type BootstrapRecipe, recipePackages } from './bootstrap-recipe.ts'
import { containerHooks } from './container-files.ts'
import type { SourceContext } from './context.ts'
import { withPackageCache } from './package-cache.ts'
import { layOutFiles, requireModes } from './system-modes.ts'
import { runTool } from './tool.ts'

/** Packages that none of a suite's archives has. */
export class NoSuchPackages extends ImagebuildError {
  readonly names: readonly string[]

  constructor(names: readonly string[], suite: string) {
    super({
      code: 'build_failed',
      what: `there is no such package in ${suite}: ${names.join(', ')}`,
      next: 'check the spelling, or add the repository in an earlier layer',
    })
    this.names = names
  }
}

/** The system is there, but what it should bring along does not install into one that does not run. */
export class CannotBringAlong extends Error {
  constructor(cause: unknown) {
    super((cause as Error).message, { cause })
  }
}

/** What must be gone from a system that many machines will be made from, as paths relative to its root. */
const MACHINE_STATE = [
  // mmdebstrap's own settings: unsafe dpkg, perhaps a proxy of this machine
  'etc/apt/apt.conf.d/99mmdebstrap',
  'etc/dpkg/dpkg.cfg.d/99mmdebstrap',
  'var/lib/systemd/random-seed',
  'var/lib/dbus/machine-id',
] as const

/**
 * mmdebstrap mounts /dev, /proc and /sys of this machine below the new root. In a mount namespace of its own
 * nobody else sees them, so that removing the folder can never reach them; and all its processes end with
 * the first one of their PID namespace, however rudely that is ended.
 */
const PRIVATE_NAMESPACES = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--']

/** Packages' scripts and our hooks leave the modes of much that they make to the umask. */
const USUAL_MODES = ['sh', '-c', 'umask 022; exec "$@"', 'sh']

/**
 * update-initramfs is taken out of the packages' way and run once at the end, after the configuration is in
 * place: otherwise the kernel's package runs it, and then a dpkg trigger once more.
 */
const DIVERT = 'chroot "$1" dpkg-divert --quiet --rename'
const HOLD_INITRAMFS = `${DIVERT} --add /usr/sbin/update-initramfs && ln -s /bin/true "$1"/usr/sbin/update-initramfs`
const MAKE_INITRAMFS = `rm "$1"/usr/sbin/update-initramfs && ${DIVERT} --remove /usr/sbin/update-initramfs && chroot "$1" update-initramfs -c -k all`

/**
 * e2scrub checks ext4 on LVM with free space in the volume group: never the case in such a guest. sshd-keygen of Debian 13
 * makes host keys of all kinds on a first boot, where cloud-init or Proxmox has made those that are wanted.
 */
const DISABLE = ['e2scrub_reap.service', 'e2scrub_all.timer', 'sshd-keygen.service']
  .map((unit) => `chroot "$1" systemctl --quiet disable ${unit} 2>/dev/null || true`)
  .join('; ')

/**
 * A first boot (there is no machine-id, as in every new container) enables whatever no preset disables: ssh.socket beside
 * ssh.service, and networkd beside ifupdown. What is disabled by now stays so.
 */
const KEEP_DISABLED = `chroot "$1" sh -ec '${[
  'mkdir -p /etc/systemd/system-preset',
  'SYSTEMD_OFFLINE=1 systemctl list-unit-files --state=disabled --no-legend --plain > /tmp/disabled',
  'while read -r unit rest; do echo "disable $unit"; done < /tmp/disabled > /etc/systemd/system-preset/60-image.preset',
  'rm /tmp/disabled',
].join('; ')}'`

/** Where what is installed last finds mmdebstrap's archives: the guest's own file names the public ones. */
const SOURCES = '/root/imagebuild-sources.list'

/** As the layers of a guest install packages (build/packages-layer.ts). */
const APT_INSTALL =
  'apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold --no-install-recommends'

/** From outside, where names can be resolved: systemd-resolved has put its own file into the system, and does not run. */
function downloadHooks(extra: readonly string[]): string[] {
  if (extra.length === 0) return []
  return [
    `cp "$1"/etc/apt/sources.list "$1"${SOURCES}`,
    `APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" ${APT_INSTALL} --download-only install ${extra.map(quote).join(' ')}`,
  ]
}

/** Said before packages are installed into the system: what fails after it is theirs. */
const INSTALLING = 'imagebuild: installing what the system brings along'

/**
 * A transaction of its own, once the system is what a guest would boot: so accounts get the numbers that they get there.
 * Scripts of packages see neither this machine's name nor its network: some write down what they find.
 */
function installHooks(extra: readonly string[]): string[] {
  if (extra.length === 0) return []
  const only = `-o Dir::Etc::SourceList=${SOURCES} -o Dir::Etc::SourceParts=-`
  const install = `${APT_INSTALL} ${only} --no-download install ${extra.join(' ')}`
  const inside = `hostname localhost && export DEBIAN_FRONTEND=noninteractive && exec ${install}`
  return [
    `echo '${INSTALLING}'`,
    `unshare --net --uts --ipc -- chroot "$1" sh -c ${quote(inside)}`,
    `rm "$1"${SOURCES}`,
  ]
}

/**
 * What packages have made of what they brought (the cache of libraries, the catalog of messages, accounts) is made: the first
 * boot, which takes files older than /usr for out of date, need not do it again. See ConditionNeedsUpdate= in systemd.unit(5).
 */
const UP_TO_DATE = 'touch -r "$1"/usr "$1"/etc/.updated "$1"/var/.updated'

/** Through the file's name, which is a link to /etc/locale.conf (not there yet) since Debian 13 and Ubuntu 24.04. */
const SET_LOCALE = `chroot "$1" sh -c 'echo LANG=C.UTF-8 > /etc/default/locale'`

/** The root file system that is made. */
export interface SystemTree {
  recipe: BootstrapRecipe
  kind: BootstrapKind
  /** laid over the packages' own */
  files: readonly SystemFile[]
  /** packages that are installed into the finished system, as a guest's first layer would */
  extra: readonly string[]
  /** new folder */
  root: string
}

/**
 * Makes the root file system of a recipe in a new folder: packages, the files given, and nothing that two machines must
 * not share.
 * @throws ImagebuildError `prerequisite_missing` if not root; `build_failed` with mmdebstrap's last lines
 * @throws NoSuchPackages where one of `extra` is in none of the archives
 * @throws CannotBringAlong where they do not install
 */
export async function makeSystemTree(
  { recipe, kind, files, extra, root }: SystemTree,
  ctx: SourceContext,
): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new ImagebuildError({
      code: 'prerequisite_missing',
      what: 'bootstrapping a system from packages needs root',
      why: 'its files belong to root and other system users',
      next: 'run imagebuild as root or with sudo, or use a cloud image as the source',
    })
  }
  const publicOnes = publicMirrors(recipe.distribution, recipe.arch)
  const mirrors = {
    main: recipe.mirror ?? publicOnes.main,
    // A private mirror of Debian rarely has the security archive at a place that could be guessed.
    security:
      recipe.securityMirror ??
      (recipe.distribution === 'ubuntu' ? recipe.mirror : undefined) ??
      publicOnes.security,
  }
  const overlay = `${root}.files`
  await layOutFiles(files, overlay)
  await using debs = await withPackageCache(recipe, ctx)
  const complaints = new AptComplaints()
  const missing: string[] = []
  let isInstalling = false
  const onLine = (line: string) => {
    complaints.read(line)
    missing.push(...missingPackages(line))
    isInstalling ||= line === INSTALLING
    ctx.onLine?.(line)
  }
  const hooks = [
    ...downloadHooks(extra),
    debs.keep,
    `cp -r --preserve=mode -- ${quote(overlay)}/. "$1"/`,
    SET_LOCALE,
    DISABLE,
    ...installHooks(extra),
    ...(kind === 'disk' ? [MAKE_INITRAMFS] : containerHooks(recipe)),
    KEEP_DISABLED,
    UP_TO_DATE,
  ]
  await runTool(
    'unshare',
    [
      ...PRIVATE_NAMESPACES,
      ...USUAL_MODES,
      'mmdebstrap',
      '--mode=root',
      '--variant=minbase',
      '--format=directory',
      `--architectures=${recipe.arch}`,
      `--include=${recipePackages(recipe, kind).join(',')}`,
      '--aptopt=Acquire::Languages "none"',
      // Nothing of this tree is worth a sync: if the machine stops now, it is made again.
      '--dpkgopt=force-unsafe-io',
      ...proxyOptions(
        await runTool(
          'apt-config',
          ['dump'],
          { purpose: 'reading the settings of apt' },
          { signal: ctx.signal },
        ),
      ),
      ...debs.options,
      ...(kind === 'disk' ? [`--essential-hook=${HOLD_INITRAMFS}`] : []),
      ...hooks.map((hook) => `--customize-hook=${hook}`),
      recipe.suite,
      root,
      ...archiveLines(recipe.distribution, recipe.suite, mirrors),
    ],
    {
      purpose: `installing ${recipe.distribution} ${recipe.suite} from ${mirrors.main}`,
      killSignal: 'SIGKILL',
    },
    { signal: ctx.signal, onLine },
  ).catch((thrown) => {
    ctx.signal.throwIfAborted()
    if (missing.some((name) => extra.some((one) => one.replace(/=.*/, '') === name)))
      throw new NoSuchPackages(missing, recipe.suite)
    const explained = complaints.explain(thrown)
    throw isInstalling ? new CannotBringAlong(explained) : explained
  })
  await Promise.all(MACHINE_STATE.map((path) => rm(join(root, path), { force: true })))
  for (const name of await readdir(join(root, 'etc/ssh'))) {
    if (name.startsWith('ssh_host_')) await rm(join(root, 'etc/ssh', name))
  }
  // mmdebstrap leaves this machine's resolv.conf where no package has replaced it.
  await rm(join(root, 'etc/resolv.conf'), { force: true })
  // A container's is written by Proxmox.
  if (kind === 'disk') await symlink('../run/systemd/resolve/stub-resolv.conf', join(root, 'etc/resolv.conf'))
  await requireModes(files, root)
}

/**
 * apt inside mmdebstrap knows nothing of this machine's configuration, on purpose: pins, architectures and
 * hooks of the host have no place in an image. A proxy is different, without it there is no network.
 * (`http_proxy` in the environment works as it is.)
 */
export function proxyOptions(aptConfigDump: string): string[] {
  return aptConfigDump
    .split('\n')
    .filter((line) => /^Acquire::(http|https)::(Proxy|Proxy-Auto-Detect)\b.* "[^"]+";$/i.test(line))
    .map((line) => `--aptopt=${line.replace(/;$/, '')}`)
}
