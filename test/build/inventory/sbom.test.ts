import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { afterEach, expect, test, vi } from 'vitest'
import { renderSbom } from '../../../src/build/inventory/sbom.ts'
import { aManifest, aPackage } from './manifests.ts'

const FACTS = { tool: '0.1.0', date: new Date('2026-07-01T10:00:00Z') }
const PACKAGES = [
  aPackage('libstdc++6', '12.2.0-14+deb12u1', { source: 'gcc-12', sourceVersion: '12.2.0-14+deb12u1' }),
  aPackage('bash', '5.2.15-2+b13', { sourceVersion: '5.2.15-2' }),
  aPackage('bsdutils', '1:2.38.1-5', { source: 'util-linux', sourceVersion: '2.38.1-5' }),
  aPackage('removed', '1', { status: 'config-files' }),
]

afterEach(() => {
  vi.unstubAllEnvs()
})

/** The schema as the library ships it, with its formats looked at. */
function validator() {
  const folder = new URL('../../../node_modules/@cyclonedx/cyclonedx-library/res/schema/', import.meta.url)
  const schema = (name: string) =>
    JSON.parse(readFileSync(new URL(`${name}.SNAPSHOT.schema.json`, folder), 'utf8'))
  const ajv = new Ajv({
    strict: false,
    allErrors: true,
    formats: {
      'date-time': (text: string) =>
        /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(text) && !Number.isNaN(Date.parse(text)),
      'iri-reference': (text: string) => !/\s/.test(text),
      'idn-email': /@/,
      uri: (text: string) => URL.canParse(text),
    },
    schemas: Object.fromEntries(
      ['spdx', 'jsf-0.82'].map((name) => [
        `http://cyclonedx.org/schema/${name}.SNAPSHOT.schema.json`,
        schema(name),
      ]),
    ),
  })
  return ajv.compile(schema('bom-1.6'))
}

test('it is valid CycloneDX 1.6', () => {
  const validate = validator()
  const bom = JSON.parse(renderSbom(aManifest({ packages: PACKAGES }), FACTS))
  validate(bom)
  expect(validate.errors).toBeNull()
  expect(bom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6' })
  // That it can also fail:
  expect(validate({ ...bom, serialNumber: 'mine' })).toBe(false)
  expect(validate({ ...bom, components: [{ name: 'no type' }] })).toBe(false)
})

test('each installed package is there by its package URL, with the source that advisories name', () => {
  const { components, metadata } = JSON.parse(renderSbom(aManifest({ packages: PACKAGES }), FACTS))
  expect(components.map(({ purl, name }: { purl?: string; name: string }) => purl ?? name)).toEqual([
    'debian',
    'pkg:deb/debian/bash@5.2.15-2%2Bb13?arch=amd64&distro=debian-12&upstream=bash%405.2.15-2',
    'pkg:deb/debian/bsdutils@1:2.38.1-5?arch=amd64&distro=debian-12&upstream=util-linux%402.38.1-5',
    'pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=gcc-12',
  ])
  expect(metadata.component).toMatchObject({ type: 'operating-system', name: 'web', version: '20260701.1' })
})

test('the same image gives the same bytes, another one another number', () => {
  const first = renderSbom(aManifest({ packages: PACKAGES }), FACTS)
  expect(renderSbom(aManifest({ packages: PACKAGES }), FACTS)).toBe(first)
  const other = renderSbom(aManifest({ packages: PACKAGES, version: '20260701.2' }), FACTS)
  expect(JSON.parse(other).serialNumber).not.toBe(JSON.parse(first).serialNumber)
  vi.stubEnv('SOURCE_DATE_EPOCH', '1700000000')
  expect(JSON.parse(renderSbom(aManifest(), FACTS)).metadata.timestamp).toBe('2023-11-14T22:13:20.000Z')
})
