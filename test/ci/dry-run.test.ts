import { expect, test } from 'vitest'
import { dryRun } from '../../ci/dry-run.ts'
import { SecretRegistry } from '../../src/core/secrets.ts'

const settings = {
  kind: 'github',
  api: 'https://api.github.com',
  owner: 'acme',
  repo: 'images',
  token: 'env:NO_SUCH_TOKEN',
} as const
const change = {
  branch: 'imagebuild/rebuild',
  base: 'main',
  title: 'Rebuild web',
  body: 'Line one\n\nLine two\n',
  closingComment: 'Nothing is stale.',
}

test('a dry run says all that would be sent, and needs neither token nor network', async () => {
  const lines: string[] = []
  const forge = dryRun(settings, (line) => lines.push(line), new SecretRegistry())
  await forge.propose({
    ...change,
    files: new Map([
      ['imagebuild.lock.json', 'é\n'],
      ['gone.txt', undefined],
    ]),
  })
  await forge.propose({ ...change, files: new Map() })
  const annotations = [{ file: 'images/web/image.yaml', line: 3, level: 'warning', text: 'old' }] as const
  await forge.report({
    commit: 'abc',
    name: 'imagebuild',
    state: 'success',
    title: 'fine',
    summary: '',
    annotations,
  })
  expect(lines).toEqual([
    'would write the branch imagebuild/rebuild, upon main, in acme/images (github, https://api.github.com)',
    '  imagebuild.lock.json, 3 bytes',
    '  without gone.txt',
    'would create or update the pull request "Rebuild web"',
    '  Line one',
    '',
    '  Line two',
    'would close a pull request from imagebuild/rebuild in acme/images (github, https://api.github.com), should one be open, and remove the branch',
    '  saying: Nothing is stale.',
    'would report success as "imagebuild" at abc in acme/images (github, https://api.github.com): fine',
    '  images/web/image.yaml:3: warning: old',
  ])
})
