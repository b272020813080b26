import type { Check, Question } from './check.ts'
import type { CheckFile } from './checks-schema.ts'
import type { YamlFile } from './yaml-file.ts'

/** The checks of one definition; a wrong one is left out. */
export function loadChecks(written: readonly (CheckFile | undefined)[], yaml: YamlFile): Check[] {
  return written.flatMap((one, index) => {
    if (one === undefined) return []
    const { line, column } = yaml.at(['checks', index])
    const question = questionOf(one)
    return {
      ...question,
      id: `checks/${index + 1}`,
      title: one.name ?? describe(question),
      sources: [],
      where: { file: yaml.file, line, column },
    }
  })
}

function questionOf(one: CheckFile): Question {
  if (one.command !== undefined) {
    const { command, exit = 0, output } = one
    return { kind: 'command', command, exit, ...(output !== undefined && { output }) }
  }
  if (one.file !== undefined) {
    const { file, exists = true, mode, owner, contains, lacks } = one
    return {
      kind: 'file',
      path: file,
      present: exists,
      ...(mode !== undefined && { mode }),
      ...(owner !== undefined && { owner }),
      ...(contains !== undefined && { contains }),
      ...(lacks !== undefined && { lacks }),
    }
  }
  if (one.package !== undefined)
    return { kind: 'package', package: one.package, installed: one.installed ?? true }
  if (one.service !== undefined) {
    const unit = /\.[a-z]+$/.test(one.service) ? one.service : `${one.service}.service`
    return { kind: 'service', unit, state: one.state ?? 'active' }
  }
  const { port = 0, protocol = 'tcp', listening = true } = one
  return { kind: 'port', port, protocol, listening }
}

function describe(question: Question): string {
  switch (question.kind) {
    case 'command':
      return `command: ${question.command.trim().split('\n')[0]}`
    case 'file':
      return `file: ${question.path}${question.present ? '' : ' is absent'}`
    case 'package':
      return `package: ${question.package}${question.installed ? '' : ' is not installed'}`
    case 'service':
      return `service: ${question.unit} is ${question.state}`
    case 'port':
      return `port: ${question.port}/${question.protocol} is ${question.listening ? 'open' : 'closed'}`
    case 'sshd':
      return `sshd: ${question.keyword}`
    case 'sysctl':
      return `sysctl: ${question.key}`
  }
}
