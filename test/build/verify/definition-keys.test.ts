import { beforeAll, expect, test } from 'vitest'
import { keyLoginsOf } from '../../../src/build/verify/definition-keys.ts'
import { generateKeyPair } from '../../../src/ssh/openssh.ts'
import { bytes, fileLayer, lxcSpec, shellLayer, WHERE } from '../../plan/spec.ts'

let a: string
let b: string
beforeAll(async () => {
  a = (await generateKeyPair('ada@desk')).publicKey
  b = (await generateKeyPair('bob@desk')).publicKey
})
const bare = (line: string) => line.split(' ').slice(0, 2).join(' ')
const fragment = (config: Record<string, unknown>) => ({ name: 'users', config, where: WHERE })

test('users of cloud-init, with all their keys; others are no users', () => {
  const config = {
    users: [
      'default',
      { name: 'ada', ssh_authorized_keys: [a, b], sudo: 'ALL=(ALL) NOPASSWD:ALL' },
      { name: 'bob', ssh_authorized_keys: b },
      { name: 'none' },
      { snapuser: 'joe@example' },
    ],
  }
  expect(keyLoginsOf([lxcSpec({ cloudInit: [fragment(config)] })])).toEqual([
    { user: 'ada', publicKey: bare(a) },
    { user: 'ada', publicKey: bare(b) },
    { user: 'bob', publicKey: bare(b) },
  ])
  expect(keyLoginsOf([lxcSpec({ cloudInit: [fragment({ users: 'default' })] })])).toEqual([])
})

test('files and scripts that write somebody’s authorized_keys; root comes first, a parent’s are told once', () => {
  const file = fileLayer({ path: '/home/ada/.ssh/authorized_keys', content: bytes(`# desk\n${a}\n`) })
  const script = shellLayer({
    script: bytes('mkdir -p /root/.ssh; echo "$KEY" > /root/.ssh/authorized_keys'),
    env: { KEY: b },
  })
  const write_files = [{ path: '/home/eve/.ssh/authorized_keys', content: `no-pty ${a}\n` }, { path: '/x' }]
  const parent = lxcSpec({ layers: [file], cloudInit: [fragment({ write_files })] })
  expect(keyLoginsOf([lxcSpec({ layers: [file, script] }), parent])).toEqual([
    { user: 'root', publicKey: bare(b) },
    { user: 'ada', publicKey: bare(a) },
    { user: 'eve', publicKey: bare(a) },
  ])
})

test('no way in: keys for one command, of tokens, commented out, in other files, and what is none', () => {
  const content = [
    `command="/usr/bin/backup" ${a}`,
    `#${b}`,
    'sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIA token',
    'ssh-ed25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAEXAMPLE paste yours here',
    `ssh-rsa ${a.split(' ')[1]}`,
  ].join('\n')
  const layers = [
    fileLayer({ path: '/root/.ssh/authorized_keys', content: bytes(content) }),
    fileLayer({ path: '/etc/keys/ada.pub', content: bytes(a) }),
  ]
  expect(keyLoginsOf([lxcSpec({ layers })])).toEqual([])
})
