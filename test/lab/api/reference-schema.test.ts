import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { pathParameters } from '../../../src/lab/api/router.ts'
import { routes } from '../../../src/lab/api/routes.ts'
import { MAJORS, RELEASES } from '../../../src/lab/release.ts'

/** The parameters of the lab's calls are those of Proxmox's own schema, where one is at hand. */

interface SchemaProperty {
  optional?: number
  type?: string
  enum?: string[] | null
  minimum?: number | string
  maximum?: number
  maxLength?: number
  minLength?: number
}
type Schema = Record<
  string,
  Record<string, { parameters?: { properties?: Record<string, SchemaProperty> }; allowtoken?: number }>
>

/** What the lab leaves out, by method and path: then it does not have it, and says so with a 400. */
const NOT_PLAYED: Record<string, RegExp> = {
  'PUT /access/users/{userid}/token/{tokenid}': /^(?:delete|regenerate)$/,
  'PUT /cluster/options': /^(?!registered-tags$|tag-style$|user-tag-access$|delete$)/,
}
/** Values that the lab leaves out of an enumeration, since it has nothing of the kind. */
const VALUES_NOT_PLAYED = ['fabric', 'include_sdn']

const fileOf = (major: number) => process.env[`IMAGEBUILD_PVE_SCHEMA_${major}`]

describe.each(MAJORS.map((major) => ({ major, file: fileOf(major) })))(
  'against the schema of release $major (skipped unless IMAGEBUILD_PVE_SCHEMA_$major names it)',
  ({ major, file }) => {
    const schema: Schema = file === undefined ? {} : JSON.parse(readFileSync(file, 'utf8'))
    const all = routes(RELEASES[major])
    const known = all.filter(({ method, path }) => schema[path]?.[method] !== undefined)

    test.skipIf(file === undefined)('covers most routes', () => {
      expect(known.length).toBeGreaterThan(all.length * 0.8)
    })

    test
      .skipIf(file === undefined)
      .each(known.map((route) => [`${route.method} ${route.path}`, route] as const))('%s', (_name, route) => {
      const properties = schema[route.path]?.[route.method]?.parameters?.properties ?? {}
      const rules = { ...pathParameters(route.path), ...route.parameters }
      // The reference writes numbered options once: net[n], efidisk0.
      const reference = (name: string) => properties[name] ?? properties[name.replace(/\d+$/, '[n]')]
      for (const [name, rule] of Object.entries(rules)) {
        const there = reference(name)
        expect(there, `${name} is not in the reference`).toBeDefined()
        if (!route.path.includes(`{${name}}`))
          expect([name, rule.optional === true]).toEqual([name, there?.optional === 1])
        expect([name, rule.type]).toEqual([name, there?.type])
        for (const fact of ['minimum', 'maximum', 'maxLength', 'minLength'] as const) {
          const value = there?.[fact]
          expect([name, fact, rule[fact]]).toEqual([
            name,
            fact,
            value === undefined ? undefined : Number(value),
          ])
        }
        if (there?.enum && rule.values)
          expect([name, [...rule.values].sort()]).toEqual([
            name,
            there.enum.filter((value) => !VALUES_NOT_PLAYED.includes(value)).sort(),
          ])
      }
      const ours = Object.keys(rules).map((rule) => rule.replace(/\d+$/, '[n]'))
      const left = NOT_PLAYED[`${route.method} ${route.path}`]
      const missing = Object.keys(properties).filter(
        (name) => !(name in rules) && !ours.includes(name) && !left?.test(name),
      )
      expect(missing).toEqual([])
    })
  },
)
