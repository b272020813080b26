import { installMissing, LAB_HOST } from '../src/cli/prerequisites.ts'

/**
 * What the tests need from Debian beyond what imagebuild itself needs: servers and readers of the real kind to
 * test against. Installed when root (or sudo without a password) runs them; otherwise the line to type is printed.
 */
const TESTS = [
  { command: 'sshd', package: 'openssh-server' },
  { command: 'ssh', package: 'openssh-client' },
  { command: 'sudo', package: 'sudo' },
  { command: 'ps', package: 'procps' },
  { command: 'gpg', package: 'gpg' },
  { command: 'gpg-agent', package: 'gpg-agent' },
  { command: 'mount', package: 'mount' },
  { command: 'bsdtar', package: 'libarchive-tools' },
  { command: 'setcap', package: 'libcap2-bin' },
  { command: 'setfacl', package: 'acl' },
  { command: 'setfattr', package: 'attr' },
  { command: '/usr/lib/python3/dist-packages/yaml/__init__.py', package: 'python3-yaml' },
  { command: 'python3', package: 'python3-minimal' },
]

try {
  await installMissing([...LAB_HOST, ...TESTS], (event) => {
    if ('message' in event) process.stderr.write(`${event.message}\n`)
  })
} catch (error) {
  const { message, next } = error as { message: string; next?: string }
  process.stderr.write(`${message}\n${next ?? ''}\n`)
  process.exitCode = 69
}
