import { describe, expect, test } from 'vitest'
import { inOneLine, mistakesOf, projectOnDisk } from './project-on-disk.ts'

const image = (rest: string) => `name: a\nsource: { release: debian/12 }\n${rest}`

async function loaded(text: string) {
  await using project = await projectOnDisk({ 'images/a/image.yaml': image(text) })
  return (await project.load()).images.get('a')
}

describe('checks', () => {
  test.each([
    ['command: docker --version', { kind: 'command', command: 'docker --version', exit: 0 }],
    ['{ command: "false", exit: 1, output: "^x" }', { kind: 'command', exit: 1, output: '^x' }],
    ['file: /etc/motd', { kind: 'file', path: '/etc/motd', present: true }],
    ['{ file: /x, exists: false }', { kind: 'file', present: false, title: 'file: /x is absent' }],
    [
      "{ file: /x, mode: '0644', owner: root:root, contains: a, lacks: b }",
      { mode: '0644', owner: 'root:root', contains: 'a', lacks: 'b' },
    ],
    ['package: curl', { kind: 'package', package: 'curl', installed: true }],
    ['{ package: telnet, installed: false }', { installed: false }],
    ['service: ssh', { kind: 'service', unit: 'ssh.service', state: 'active' }],
    ['{ service: apt-daily.timer, state: enabled }', { unit: 'apt-daily.timer', state: 'enabled' }],
    ['port: 22', { kind: 'port', port: 22, protocol: 'tcp', listening: true }],
    ['{ port: 111, protocol: udp, listening: false, name: no rpc }', { protocol: 'udp', title: 'no rpc' }],
  ])('%s', async (check, expected) => {
    const spec = await loaded(`checks:\n  - ${check}\n`)
    expect(spec?.checks).toMatchObject([{ id: 'checks/1', where: { line: 4 }, ...expected }])
  })

  test.each([
    ['{ file: /x, port: 2 }', '4:17 `port` cannot stand beside `file`: one check asks one thing'],
    ['{ name: x }', '4:7 an item of `checks` needs one of command, file, package, service or port'],
    ['{ port: 22, exit: 1 }', '4:17 `exit` only means something beside `command`'],
    ["{ command: x, output: '(' }", '4:27 `output` must be a regular expression'],
    ['{ port: 0 }', '4:13 '],
    ['{ file: etc }', '4:13 `file` must be an absolute path'],
    ['{ service: a b }', '4:16 `service` must be the name of a systemd unit'],
    ['{ comand: x }', '4:7 unknown key `comand` (did you mean `command`?)'],
  ])('%s', async (check, expected) => {
    const found = await mistakesOf(image(`checks:\n  - ${check}\n`))
    expect(
      found.some((one) => one.startsWith(expected)),
      found.join('\n'),
    ).toBe(true)
  })
})

describe('hardening', () => {
  test.each([
    ['', { profile: 'none', containers: false, postQuantum: false, except: {} }],
    ['hardening: baseline\n', { profile: 'baseline' }],
    ['hardening: {}\n', { profile: 'baseline' }],
    [
      'hardening: { profile: cis-l1, postQuantum: true, except: { sshd-root: we need it } }\n',
      { profile: 'cis-l1', postQuantum: true, except: { 'sshd-root': 'we need it' }, where: { line: 3 } },
    ],
    ['provision: [{ packages: [docker.io] }]\n', { containers: true }],
    ['provision: [{ packages: [docker.io] }]\nhardening: { containers: false }\n', { containers: false }],
  ])('%j', async (text, expected) => {
    expect((await loaded(text))?.hardening).toMatchObject(expected)
  })

  test.each([
    ['kind: lxc', false],
    ['kind: lxc\nfeatures: { nesting: true }', false],
    ['kind: lxc\nprovision: [{ packages: [podman=4.3] }]', true],
    ['kind: lxc\nfeatures: { nesting: true }\nhardening: { containers: true }', true],
  ])(
    'not what a container may do, but what is installed says whether it has containers: %j',
    async (text, containers) => {
      expect((await loaded(`${text}\n`))?.hardening.containers).toBe(containers)
    },
  )

  test.each([
    ['[docker.io]', true],
    ['[curl]', false],
  ])('a system that is made from the packages %s', async (packages, containers) => {
    const source = `{ bootstrap: { distribution: debian, suite: bookworm, packages: ${packages} } }`
    await using project = await projectOnDisk({ 'images/a/image.yaml': `name: a\nsource: ${source}\n` })
    expect((await project.load()).images.get('a')?.hardening.containers).toBe(containers)
  })

  test.each([
    ['hardening: cis', '3:12 '],
    [
      'hardening: { except: { sshd-rot: x } }',
      '3:24 there is no item `sshd-rot` (did you mean `sshd-root`?)',
    ],
    ['hardening: { except: { sshd-root: "" } }', '3:35 '],
    [
      'hardening: baseline\nprovision: [{ packages: [curl, telnet=1.2] }]',
      '4:32 `telnet` is refused by `hardening`: services-insecure (if it has to be: hardening.except: { services-insecure: <the reason> })',
    ],
    [
      'hardening: cis-l1\nprovision: [reboot, { packages: { install: [nginx] } }]',
      '4:45 `nginx` is refused by `hardening`: services-web (',
    ],
    [
      'hardening: baseline\nprovision: [{ file: { path: /etc//nftables.conf, content: x } }]',
      '4:29 `hardening` writes /etc//nftables.conf itself, after all layers: firewall-rules (',
    ],
  ])('%s', async (line, expected) => {
    const found = await mistakesOf(image(`${line}\n`))
    expect(
      found.some((one) => one.startsWith(expected)),
      found.join('\n'),
    ).toBe(true)
  })

  test.each([
    'provision: [{ packages: [telnet] }]',
    'hardening: baseline\nprovision: [{ packages: [nginx] }]',
    'hardening: baseline\nprovision: [{ packages: [telnet] }, { packages: { remove: [telnet] } }]',
    'hardening: { except: { services-insecure: old routers } }\nprovision: [{ packages: [telnet] }]',
    'hardening: { containers: true }\nprovision: [{ file: { path: /etc/nftables.conf, content: x } }]',
    'hardening: { except: { firewall-rules: ours } }\nprovision: [{ file: { path: /etc/nftables.conf, content: x } }]',
  ])('nothing is refused: %j', async (text) => {
    expect(await mistakesOf(image(`${text}\n`))).toEqual([])
  })

  test('an image whose sshd would not let a build in is nobody’s parent', async () => {
    const found = await mistakesOf('name: a\nsource: { image: b }\n', {
      'images/b/image.yaml': 'name: b\nsource: { release: debian/12 }\nhardening: { postQuantum: true }\n',
    })
    expect(found).toEqual([
      expect.stringMatching(/^2:18 nobody can build on `b`: its sshd offers post-quantum key exchange alone/),
    ])
  })

  test.each([
    ['', true],
    ['hardening: { containers: false }\n', false],
  ])('a child of an image that runs containers: %j', async (own, containers) => {
    await using project = await projectOnDisk({
      'images/a/image.yaml': `name: a\nsource: { image: b }\n${own}`,
      'images/b/image.yaml': 'name: b\nsource: { release: debian/12 }\nprovision: [{ packages: [podman] }]\n',
    })
    expect((await project.load()).images.get('a')?.hardening.containers).toBe(containers)
  })
})

describe('an exception in an image that is built upon a hardened one', () => {
  const project = (parent: string, child: string) =>
    projectOnDisk({
      'images/base/image.yaml': `name: base\nsource: { release: debian/12 }\n${parent}\n`,
      'images/mid/image.yaml': 'name: mid\nsource: { image: base }\n',
      'images/web/image.yaml': `name: web\nsource: { image: mid }\n${child}\n`,
    })

  test('does not undo the item: a warning says so, and what can be done', async () => {
    await using files = await project(
      'hardening: baseline',
      'hardening: { except: { sshd-root: we need it } }',
    )
    const { images, warnings } = await files.load()
    const where = { file: `${files.root}/images/base/image.yaml`, line: 3, column: 1 }
    expect(images.get('web')?.hardening.inherited).toEqual({ 'sshd-root': { image: 'base', where } })
    expect(warnings.map((found) => [found.severity, inOneLine(found, files.root)])).toEqual([
      [
        'warning',
        'images/web/image.yaml:3:24 `sshd-root` stays as `base` has applied it (images/base/image.yaml:3), and is checked no more (to be without it, except it there too, or undo it in a layer here)',
      ],
    ])
  })

  test.each([
    ['which is not hardened', 'hardening: none', 'sshd-root'],
    ['which excepts it too', 'hardening: { except: { sshd-root: we need it } }', 'sshd-root'],
    ['whose profile has no such item', 'hardening: baseline', 'services-web'],
    ['to which it does not apply', 'hardening: { containers: true }', 'firewall-rules'],
  ])('%s needs no warning', async (_, parent, id) => {
    await using files = await project(parent, `hardening: { profile: cis-l1, except: { ${id}: why } }`)
    const { images, warnings } = await files.load()
    expect(warnings).toEqual([])
    expect(images.get('web')?.hardening).not.toHaveProperty('inherited')
  })
})
