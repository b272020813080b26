import { describe, expect, test } from 'vitest'
import { forgeSettings, startedFor } from '../../ci/forge-settings.ts'

const ACTIONS = {
  GITHUB_ACTIONS: 'true',
  GITHUB_API_URL: 'https://api.github.com',
  GITHUB_REPOSITORY: 'acme/images',
  GITHUB_TOKEN: 'x',
}
const RUNNER = { ...ACTIONS, GITHUB_API_URL: 'https://codeberg.org/api/v1/' }
const FORGEJO = { kind: 'forgejo', api: 'https://codeberg.org/api/v1', owner: 'acme', repo: 'images' }

describe('which forge and repository', () => {
  test.each([
    [
      'GitHub Actions',
      {},
      ACTIONS,
      {
        kind: 'github',
        api: 'https://api.github.com',
        owner: 'acme',
        repo: 'images',
        token: 'env:GITHUB_TOKEN',
      },
    ],
    [
      'GitHub Enterprise Server',
      {},
      { ...ACTIONS, GITHUB_API_URL: 'https://git.corp/api/v3' },
      { kind: 'github', api: 'https://git.corp/api/v3' },
    ],
    [
      'Forgejo Actions',
      {},
      { ...RUNNER, FORGEJO_ACTIONS: 'true', FORGEJO_TOKEN: 'x' },
      { ...FORGEJO, token: 'env:FORGEJO_TOKEN' },
    ],
    ['Gitea Actions', {}, { ...RUNNER, GITEA_ACTIONS: 'true' }, { ...FORGEJO, token: 'env:GITHUB_TOKEN' }],
    [
      'a token of one’s own',
      {},
      { ...RUNNER, FORGEJO_TOKEN: 'x', IMAGEBUILD_FORGE_TOKEN: 'y' },
      { ...FORGEJO, token: 'env:IMAGEBUILD_FORGE_TOKEN' },
    ],
    [
      'the address alone',
      { api: FORGEJO.api, repository: 'acme/images' },
      {},
      { ...FORGEJO, token: 'env:IMAGEBUILD_FORGE_TOKEN' },
    ],
    [
      'options go first',
      { kind: 'github', repository: 'a/b', token: 'file:/run/token' } as const,
      RUNNER,
      { kind: 'github', owner: 'a', repo: 'b', token: 'file:/run/token' },
    ],
  ])('%s', (_, options, env, settings) => {
    expect(forgeSettings(options, env)).toMatchObject(settings)
  })

  test.each([
    [
      'another Forgejo than the runner’s',
      { api: FORGEJO.api },
      { ...ACTIONS, FORGEJO_TOKEN: 'x', GITEA_TOKEN: 'x' },
    ],
    ['GitHub, on a runner of Forgejo', { api: ACTIONS.GITHUB_API_URL }, { ...RUNNER, FORGEJO_TOKEN: 'x' }],
    ['another port', { api: 'https://codeberg.org:8443/api/v1' }, RUNNER],
    ['no encryption', { api: 'http://codeberg.org/api/v1' }, RUNNER],
    ['no runner at all', { api: 'https://api.github.com', repository: 'a/b' }, { GITHUB_TOKEN: 'x' }],
  ])('a runner’s token goes to its own forge only, not to %s', (_, options, env) => {
    expect(forgeSettings(options, env)).toMatchObject({ token: 'env:IMAGEBUILD_FORGE_TOKEN' })
  })

  test('of two runners’ tokens the one goes whose forge it is', () => {
    const both = { ...ACTIONS, FORGEJO_TOKEN: 'x', FORGEJO_API_URL: FORGEJO.api }
    expect(forgeSettings({ api: FORGEJO.api }, both)).toMatchObject({ token: 'env:FORGEJO_TOKEN' })
    expect(forgeSettings({ api: ACTIONS.GITHUB_API_URL }, both)).toMatchObject({ token: 'env:GITHUB_TOKEN' })
  })

  test.each([
    ['nothing', {}, {}],
    ['no address of a Forgejo', { kind: 'forgejo', repository: 'a/b' } as const, {}],
    ['no repository', { kind: 'github' } as const, {}],
    ['half a repository', { kind: 'github', repository: 'a' } as const, {}],
    ['a path', { kind: 'github', repository: 'a/b/c' } as const, {}],
    ['a token in the open', { token: 'ghp_secret' }, ACTIONS],
  ])('%s is said, without any secret', (_, options, env) => {
    const told = () => forgeSettings(options, env)
    expect(told).toThrow(expect.objectContaining({ code: 'usage', next: expect.any(String) }))
    expect(told).not.toThrow(/ghp_secret/)
  })
})

test('what the run was started for is told by whichever runner it is; a tag is no branch', () => {
  expect(startedFor({ GITHUB_SHA: 'abc', GITHUB_REF_NAME: 'main', GITHUB_REF_TYPE: 'branch' })).toEqual({
    commit: 'abc',
    branch: 'main',
  })
  expect(startedFor({ GITHUB_SHA: 'abc', GITHUB_REF_NAME: 'v1', GITHUB_REF_TYPE: 'tag' })).toEqual({
    commit: 'abc',
  })
  expect(startedFor({ FORGEJO_SHA: 'def', GITHUB_SHA: 'abc' })).toEqual({ commit: 'def' })
})
