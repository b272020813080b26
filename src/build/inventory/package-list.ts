import type { PackageList } from '../../updates/package-list.ts'
import type { Manifest } from './manifest.ts'

/** Of a manifest what must be known to look for updates. What was removed but for its configuration gets none. */
export function packageListOf(
  { image, distribution, apt, packages }: Manifest,
  architecture: string,
): PackageList {
  return {
    image,
    distribution,
    architecture,
    sources: apt?.sources ?? [],
    packages: (packages ?? []).filter(({ status }) => status !== 'config-files'),
  }
}
