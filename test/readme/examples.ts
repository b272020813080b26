import { type Block, blocksOf, DOCUMENTS, type Document, hasLine } from './blocks.ts'

/**
 * How each example is tested: by a line of it. A block that is not here fails test/readme/every-example.test.ts.
 *
 * definition  loaded, planned, and left by `fmt` as it is
 * part        the same, within the least definition that it is a part of
 * target      loaded as a part of imagebuild.yaml
 * ci          the same, beside a target
 * run         run by the test that is named, which takes it from the document
 * shown       what a command prints: the test that is named compares it with what it prints there
 * syntax      not run, for the reason that is given: a shell and, for `imagebuild` and `pveum`, what reads their options
 *             understand it
 * hcl         not run, since neither Terraform nor its providers are packaged: HashiCorp's own parser understands it
 */
export type Fate =
  | { how: 'definition' | 'part' | 'target' | 'ci' | 'hcl' }
  | { how: 'run' | 'shown'; by: string }
  | { how: 'syntax'; since: string }

const E2E = 'test/e2e/readme.test.ts'
const SSH_CA = 'test/readme/ssh-ca.integration.test.ts'

export const EXAMPLES: Readonly<Record<Document, Readonly<Record<string, Fate>>>> = {
  'README.md': {
    '$ ./imagebuild run debian-base': { how: 'shown', by: 'test/readme/every-example.test.ts' },
    'git clone ': {
      how: 'syntax',
      since:
        'it needs a published repository; test/e2e builds the shipped images, .ci/run installs and tests',
    },
    'name: web': { how: 'definition' },
    'mkdir -p images/web/files': { how: 'run', by: E2E },
    'name: dns': { how: 'definition' },
    'hardening: baseline': { how: 'part' },
    '  profile: cis-l1': { how: 'part' },
    '      path: /etc/nftables.d/web.nft': { how: 'part' },
    './imagebuild ssh-ca init': { how: 'run', by: SSH_CA },
    '      signer: ssh-ca': { how: 'target' },
    'checks:': { how: 'part' },
    '$ imagebuild diff web': { how: 'shown', by: E2E },
    '$ ./imagebuild plan --explain': { how: 'shown', by: E2E },
    'imagebuild history web': { how: 'run', by: E2E },
    '  vmid: 9000': { how: 'part' },
    'pveum user add': { how: 'run', by: E2E },
    '    endpoint: https://pve.example:8006': { how: 'target' },
    '$ ./imagebuild ci plan': { how: 'shown', by: 'test/readme/ci-plan.test.ts' },
    '  security: medium': { how: 'ci' },
    '  maxAge: 30d': { how: 'part' },
    '  notify:': { how: 'ci' },
  },
  'docs/ssh-certificates.md': {
    './imagebuild ssh-ca init': { how: 'run', by: SSH_CA },
    'ssh-add -t 8h': { how: 'run', by: SSH_CA },
    '    # …': { how: 'target' },
    '  ca: [keys/user_ca.pub]': { how: 'part' },
    './imagebuild ssh-ca sign-user': {
      how: 'syntax',
      since: 'it logs in to a machine of the reader; test/ssh/ca/login.integration.test.ts logs in so',
    },
    './imagebuild ssh-ca known-hosts': { how: 'run', by: SSH_CA },
    'data "external" "host_key"': { how: 'hcl' },
    'cloud-init devel make-mime': {
      how: 'syntax',
      since: 'it wants cloud-init, which no test installs on this machine',
    },
    'pct pull 101': { how: 'syntax', since: 'pct is on a Proxmox node alone' },
    './imagebuild ssh-ca revoke': { how: 'run', by: SSH_CA },
    './imagebuild ssh-ca rotate': { how: 'run', by: SSH_CA },
  },
  'examples/README.md': {
    'apt-get install -y ansible': {
      how: 'syntax',
      since: 'test/e2e/ansible-example.ts runs the playbook, with a key of its own',
    },
  },
  'ci/README.md': {
    'useradd --system': {
      how: 'syntax',
      since: 'it sets up the machine that it is typed on; the units are run in a container of the lab',
    },
  },
}

/** First words of shell lines that are checked by their syntax alone, or run where they need nothing of ours. */
export const OTHER_COMMANDS = [
  ...['git', 'npm', 'mkdir', 'echo', 'export', 'ssh', 'ssh-add', 'cloud-init', 'pct'],
  ...[
    'apt-get',
    'ansible-playbook',
    'useradd',
    'chown',
    'install',
    'cp',
    'systemctl',
    'journalctl',
    '/opt/imagebuild/imagebuild',
  ],
] as const

const ALL = DOCUMENTS.flatMap(blocksOf)

/** The lines in EXAMPLES that a block has: one, where it is classified. */
export const begins = ({ document, text }: Block) =>
  Object.keys(EXAMPLES[document]).filter((line) => hasLine(text, line))

export function fateOf(one: Block): Fate | undefined {
  const [begin, ...more] = begins(one)
  return begin === undefined || more.length > 0 ? undefined : EXAMPLES[one.document][begin]
}

/** Blocks of these fates, for `test.each`: the place, with the reason where they are not run, and the block. */
export function examples(...how: Fate['how'][]): [string, Block][] {
  return ALL.flatMap((one) => {
    const fate = fateOf(one)
    if (fate === undefined || !how.includes(fate.how)) return []
    const place = `${one.document}:${one.line}`
    return [[fate.how === 'syntax' ? `${place} (not run: ${fate.since})` : place, one]]
  })
}
