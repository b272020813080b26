import { expect, test } from 'vitest'
import { daemonEnvironment } from '../../src/lab/environment.ts'

test('the lab gets what it needs, and no token', () => {
  const needed = {
    HOME: '/root',
    LANG: 'C.UTF-8',
    LC_ALL: 'C',
    TZ: 'UTC',
    TMPDIR: '/var/tmp',
    IMAGEBUILD_LAB_ACCEL: 'tcg',
    IMAGEBUILD_LAB_IDLE_SECONDS: '5',
    https_proxy: 'http://proxy',
    HTTPS_PROXY: 'http://proxy',
    NO_PROXY: 'localhost',
    NODE_EXTRA_CA_CERTS: '/ca.pem',
  }
  const others = {
    PROXMOX_VE_API_TOKEN: 'root@pam!ci=1',
    GITHUB_TOKEN: 'ghp_1',
    AWS_SECRET_ACCESS_KEY: '1',
    IMAGEBUILD_TARGET: 'home',
    IMAGEBUILD_PASSPHRASE: 'x',
    SSH_AUTH_SOCK: '/tmp/agent',
    HOME_TOKEN: '1',
    MY_PATH: '1',
  }
  expect(daemonEnvironment({ PATH: '/bin', ...needed, ...others })).toEqual({
    ...needed,
    PATH: '/bin:/usr/sbin:/sbin',
  })
})
