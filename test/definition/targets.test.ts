import { describe, expect, test } from 'vitest'
import { CONFIG, mistakesOfConfig, projectOnDisk } from './project-on-disk.ts'

const PVE =
  'namespace: home\ntargets:\n  p:\n    kind: pve\n    node: pve\n    storages: { disks: d, images: i }\n'

describe('imagebuild.yaml', () => {
  test.each([
    ['targets: { lab: { kind: lab } }\n', '1:1 this file needs `namespace`'],
    ['namespace: home\n', '1:1 this file needs `targets`'],
    [
      'namespace: home\ntargets: {}\n',
      '2:1 `targets` needs at least one target (for example: lab: { kind: lab })',
    ],
    [
      'namespace: home\ntarget: lba\ntargets: { lab: { kind: lab } }\n',
      '2:9 there is no target `lba` (did you mean `lab`?)',
    ],
    [
      'namespace: home\ntarget: constructor\ntargets: { lab: { kind: lab } }\n',
      '2:9 there is no target `constructor` (targets: lab)',
    ],
    [
      'namespace: home\ntargets: { lab: { kind: labb } }\n',
      '2:25 `kind` must be one of lab, pve, not `labb` (did you mean `lab`?)',
    ],
    ['namespace: home\ntargets: { lab: {} }\n', '2:12 `lab` needs `kind`: lab or pve'],
    [
      'namespace: home\ntargets: { lab: { kind: lab, nod: x } }\n',
      '2:30 unknown key `nod` (known here: kind, nodes, storages, vmids, macPrefix, mirrors, privateHosts, pool, ssh)',
    ],
    [
      'namespace: home\ntargets: { My_Lab: { kind: lab } }\n',
      /^2:12 the name `My_Lab` must be 1 to 40 lower-case/,
    ],
    [
      `${CONFIG}    \n  b: { kind: lab, macPrefix: '00:11' }\n`,
      '5:30 `macPrefix` must be locally administered and unicast: the first byte is x2, x6, xA or xE',
    ],
    [`${CONFIG}  b: { kind: lab, nodes: [a, c, a] }\n`, '4:33 node `a` is listed twice'],
    [
      'namespace: home\ntargets: { p: { kind: pve, storages: { disks: d, images: i } } }\n',
      '2:12 `p` needs one of node or nodes',
    ],
    [
      `${CONFIG}  b: { kind: lab, vmids: { templates: 200-100 } }\n`,
      '4:39 `templates` ends before it starts (write 100-200)',
    ],
    [
      `${CONFIG}  b: { kind: lab, vmids: { templates: 99-100 } }\n`,
      '4:39 `templates` must be two VMIDs with a dash: 9000-9099, not `99-100`',
    ],
    [
      `${CONFIG}  b: { kind: lab, vmids: { claims: 9050-9150 } }\n`,
      '4:36 `claims` (9050-9150) overlaps `templates` (9000-9099)',
    ],
  ])('%s', async (text, expected) => {
    const [mistake, ...more] = await mistakesOfConfig(text)
    expect(more).toEqual([])
    expect(mistake).toEqual(typeof expected === 'string' ? expected : expect.stringMatching(expected))
  })
})

describe('a Proxmox target', () => {
  test('with everything, paths and references made absolute', async () => {
    const text = `${PVE}    endpoint: https://pve.example:8006\n    username: root@pam\n    password: file:secret\n    ca: ca.pem\n`
    await using project = await projectOnDisk({
      'imagebuild.yaml': text,
      'ca.pem': '-----BEGIN CERTIFICATE-----\n',
    })
    expect((await project.load()).targets.p).toEqual({
      kind: 'pve',
      node: 'pve',
      storages: { disks: 'd', images: 'i' },
      endpoint: 'https://pve.example:8006',
      username: 'root@pam',
      password: `file:${project.root}/secret`,
      ca: `${project.root}/ca.pem`,
      bridge: 'vmbr0',
      addresses: 'dhcp',
      dns: [],
      vmids: { templates: '9000-9099', claims: '9900-9999' },
      macPrefix: '02:1b',
      mirrors: { debian: {}, ubuntu: {} },
      privateHosts: [],
      ssh: { ca: [] },
    })
  })
  test.each([
    [
      'endpoint: http://pve',
      '7:15 `endpoint` must be an https URL without a path or password: https://pve.example:8006, not `http://pve`',
    ],
    ['username: root@pam', '7:5 `username` needs `password` beside it'],
    [
      'fingerprint: AA',
      '7:18 `fingerprint` must be a SHA-256 fingerprint: 32 bytes in hex with colons, not `AA`',
    ],
    ['ca: none.pem', '7:9 `ca` cannot be read: there is no none.pem'],
    ['ca: imagebuild.yaml', '7:9 imagebuild.yaml holds no certificate in PEM form'],
    [
      'mirrors: { debian: { main: deb.example } }',
      '7:32 `main` must be an http or https URL without a password, `?` and `#`, not `deb.example`',
    ],
    ['mirrors: { main: http://x }', '7:16 unknown key `main` (known here: debian, ubuntu)'],
    [
      'privateHosts: [http://deb.lan]',
      '7:20 an item of `privateHosts` must be a host as in a URL, in lower case, with a port where it is not the usual one: deb.example, 192.0.2.1:3142, not `http://deb.lan`',
    ],
    ['nodes: [a]', '7:5 `nodes` cannot stand beside `node`: `nodes` is for several'],
    ['vlan: 4095', '7:11 `vlan` must be at most 4094, not `4095`'],
    ['dns: [1.2.3]', '7:11 an item of `dns` must be an IPv4 address, not `1.2.3`'],
    ['addresses: static', '7:16 `addresses` needs `dhcp` or a map, not `static`'],
  ])('%s', async (line, expected) => {
    const mistakes = await mistakesOfConfig(`${PVE}    ${line}\n`)
    expect(mistakes.map((text) => text.replace(/\/\S*\/(?=none.pem)/, ''))).toEqual([expected])
  })
  test('ways that exclude each other', async () => {
    const both = 'token: env:T\n    username: a@pam\n    password: env:P\n    ca: x\n    fingerprint: '
    const mistakes = await mistakesOfConfig(`${PVE}    ${both}${Array(32).fill('0A').join(':')}\n`)
    expect(mistakes).toEqual([
      '8:5 `username` cannot stand beside `token`: there is one way to log in',
      '10:5 `ca` cannot stand beside `fingerprint`: there is one way to trust the server',
    ])
  })
  test.each([
    ['10.0.0.20-10.0.0.10', 24, '10.0.0.1', '8:14 `range` ends before it starts (write 10.0.0.10-10.0.0.20)'],
    ['10.0.0.20-10.0.1.10', 24, '10.0.0.1', '8:14 `range` is larger than one /24 network'],
    [
      '10.0.0.0-10.0.0.10',
      24,
      '10.0.0.99',
      '8:14 `range` holds the address of the network itself or its broadcast address',
    ],
    [
      '10.0.0.20-10.0.0.30',
      24,
      '10.0.1.1',
      '10:16 `gateway` is not in the network of the range, 10.0.0.0/24',
    ],
    [
      '10.0.0.20-10.0.0.30',
      24,
      '10.0.0.20',
      '10:16 `gateway` lies within the range: a guest would be given its address',
    ],
    [
      '10.0.0.2-10.0.0.300',
      24,
      '10.0.0.1',
      '8:14 `range` must be two IPv4 addresses with a dash: 192.0.2.100-192.0.2.149, not `10.0.0.2-10.0.0.300`',
    ],
    ['10.0.0.20-10.0.0.30', 31, '10.0.0.1', '9:15 `prefix` must be at most 30, not `31`'],
  ])('%s/%i by %s', async (range, prefix, gateway, expected) => {
    const addresses = `      range: ${range}\n      prefix: ${prefix}\n      gateway: ${gateway}\n`
    expect(await mistakesOfConfig(`${PVE}    addresses:\n${addresses}`)).toEqual([expected])
  })
  test('a secret that was typed into the file is not printed', async () => {
    const text = `${PVE}    token: root@pam!x=very-secret\n    password: |\n      also-secret\n    username: a@pam\n`
    await using project = await projectOnDisk({ 'imagebuild.yaml': text })
    const error = await project.load().catch((thrown) => thrown)
    expect(error.output.join('\n')).toContain('`token` must be a reference to a secret')
    expect(error.output.join('\n')).toContain('`password` must be a reference to a secret')
    expect(JSON.stringify([error.output, error.toJSON()])).not.toMatch(/very-secret|also-secret/)
  })
})
