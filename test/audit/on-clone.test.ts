import { expect, test } from 'vitest'
import { installedPackages } from '../../audit/on-clone.ts'

test('installed is what dpkg has whole, not what was removed or is half there', () => {
  const status = `Package: libxml2
Status: deinstall ok config-files
Priority: optional

Package: adduser
Status: install ok installed
Priority: important
Description: add and remove users and groups
 Status: install ok installed is what a text may say too.

Package: aide
Status: install ok half-configured

Package: base-files
Essential: yes
Status: hold ok installed
`
  expect([...installedPackages(status)]).toEqual(['adduser', 'base-files'])
})
