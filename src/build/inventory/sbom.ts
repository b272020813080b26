import { createHash } from 'node:crypto'
import { ComponentType, LifecyclePhase } from '@cyclonedx/cyclonedx-library/Enums'
import { Bom, Component, ComponentRepository, Metadata, Tools } from '@cyclonedx/cyclonedx-library/Models'
import { JSON as CycloneDxJson, JsonSerializer } from '@cyclonedx/cyclonedx-library/Serialize'
import { Spec1dot6 } from '@cyclonedx/cyclonedx-library/Spec'
import { PackageURL } from 'packageurl-js'
import type { Manifest, Package } from './manifest.ts'

/**
 * The packages of an image as CycloneDX 1.6 JSON, for scanners. The same manifest gives the same bytes.
 * @param facts.tool version of imagebuild
 * @param facts.date when it was made; SOURCE_DATE_EPOCH counts more
 */
export function renderSbom(manifest: Manifest, facts: { tool: string; date: Date }): string {
  const { distribution, image, version, kind } = manifest
  const installed = (manifest.packages ?? []).filter(({ status }) => status !== 'config-files')
  const epoch = process.env.SOURCE_DATE_EPOCH
  const bom = new Bom({
    serialNumber: `urn:uuid:${uuidOf(JSON.stringify([image, version, distribution, installed]))}`,
    metadata: new Metadata({
      timestamp: epoch ? new Date(Number(epoch) * 1000) : facts.date,
      tools: new Tools({
        components: new ComponentRepository([
          new Component(ComponentType.Application, 'imagebuild', { version: facts.tool }),
        ]),
      }),
      component: new Component(
        kind === 'lxc' ? ComponentType.Container : ComponentType.OperatingSystem,
        image,
        { version, bomRef: `${image}@${version}` },
      ),
    }),
  })
  bom.metadata.lifecycles.add(LifecyclePhase.Build)
  // Scanners look here for which distribution's advisories count.
  bom.components.add(
    new Component(ComponentType.OperatingSystem, distribution.id, {
      version: distribution.version,
      description: distribution.name,
      bomRef: 'distribution',
    }),
  )
  for (const one of installed) {
    const purl = purlOf(one, distribution)
    bom.components.add(
      new Component(ComponentType.Library, one.name, { version: one.version, purl, bomRef: purl }),
    )
  }
  const serializer = new JsonSerializer(new CycloneDxJson.Normalize.Factory(Spec1dot6))
  return `${serializer.serialize(bom, { sortLists: true, space: 2 })}\n`
}

/** With its source package, by which Debian's and Ubuntu's advisories are written. */
function purlOf(one: Package, { id, version }: Manifest['distribution']): string {
  const upstream = one.sourceVersion === one.version ? one.source : `${one.source}@${one.sourceVersion}`
  const qualifiers = {
    arch: one.architecture,
    distro: version === '' ? id : `${id}-${version}`,
    ...(upstream !== one.name && { upstream }),
  }
  const purl = new PackageURL('deb', id, one.name, one.version, qualifiers, undefined).toString()
  // The specification has it encoded, the library does not: as text, the two would be different packages.
  return purl.replaceAll('+', '%2B')
}

/** A UUID of version 8 (RFC 9562: bits by whoever makes it) from what it names. */
function uuidOf(text: string): string {
  const bytes = createHash('sha256').update(text).digest().subarray(0, 16)
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x80
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
