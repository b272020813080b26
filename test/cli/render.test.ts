import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  eventLine,
  formatResult,
  formatSeconds,
  jsonRenderer,
  logFile,
  plainRenderer,
} from '../../src/cli/render.ts'
import { TerminalRenderer } from '../../src/cli/terminal.ts'
import { formatBytes } from '../../src/core/bytes.ts'
import { createBus, type Event, type RunResult, type TemplateRow } from '../../src/core/events.ts'
import { REDACTED, SecretRegistry } from '../../src/core/secrets.ts'

beforeEach(() => {
  vi.stubEnv('NO_COLOR', '1')
})
afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllEnvs()
})

test.each([
  [0, '0.0s'],
  [0.94, '0.9s'],
  [9.9, '9.9s'],
  [12.4, '12s'],
  [59.6, '1m 00s'],
  [61, '1m 01s'],
  [192, '3m 12s'],
  [3599.6, '1h 00m'],
  [7265, '2h 01m'],
])('%d seconds are %s', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text)
})

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [2 ** 20, '1.0 MiB'],
  [1.5 * 2 ** 30, '1.5 GiB'],
  [2 ** 50, '1024.0 TiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text)
})

const TEMPLATE = { node: 'lab', vmid: 9000, name: 'x', version: '20260101.1', digest: 'sha256:ab' }
const BUILT: RunResult = {
  image: 'debian-base',
  status: 'built',
  held: false,
  templates: [TEMPLATE],
  template: TEMPLATE,
  seconds: 192,
}

test('a result is one line', () => {
  expect(formatResult(BUILT)).toBe('debian-base  built  template 9000 on lab  (3m 12s)')
  expect(formatResult({ ...BUILT, status: 'unchanged', held: true, seconds: 1 })).toBe(
    'debian-base  unchanged  template 9000 on lab  held after a rollback  (1.0s)',
  )
  expect(formatResult({ ...BUILT, swapSeconds: 2.03 })).toBe(
    'debian-base  built  template 9000 on lab  its VMID was away for 2.0s  (3m 12s)',
  )
  const [row] = BUILT.templates as [TemplateRow]
  expect(formatResult({ ...BUILT, templates: [row, { ...row, node: 'b', vmid: 9001 }] })).toBe(
    'debian-base  built  templates 9000 on lab, 9001 on b  (3m 12s)',
  )
  expect(formatResult({ image: 'web', status: 'failed', held: false, templates: [], seconds: 5 })).toBe(
    'web  failed  (5.0s)',
  )
})

const STEP = { image: 'web', step: 'boot', label: 'booting' }
const output = (line: string): Event => ({
  type: 'output',
  image: 'web',
  step: 'layer',
  stream: 'stdout',
  line,
})

describe('plain lines', () => {
  test.each<[Event, string | undefined]>([
    [{ type: 'step.start', ...STEP }, 'web: booting'],
    [{ type: 'step.end', ...STEP, seconds: 2, ok: true }, 'web: booting: done in 2.0s'],
    [{ type: 'step.end', ...STEP, seconds: 2, ok: false }, 'web: booting: failed after 2.0s'],
    [output('\x1b[1mbold\x1b[0m'), 'web | bold'],
    [{ type: 'warning', message: 'careful' }, 'warning: careful'],
    [
      { type: 'pause', seconds: 600.2 },
      'imagebuild did not run for 10m 00s: this machine was suspended, the process was stopped, or it got no processor time (or the clock was set). Deadlines wait for as long',
    ],
    [
      { type: 'leak', image: 'web', resource: 'VM 1', why: 'x', next: 'do y' },
      'web: LEFT BEHIND: VM 1: x; do y',
    ],
    [{ type: 'run.start', images: [], target: 'lab' }, undefined],
  ])('%j', (event, line) => {
    expect(eventLine(event, { output: true })).toBe(line)
  })

  test('have the time since the start', () => {
    let text = ''
    const sink = plainRenderer({ write: (part: string) => (text += part) })
    sink({ type: 'info', message: 'hello' })
    sink({ type: 'run.end', schema: 1, results: [] })
    expect(text).toMatch(/^\[ +0\.\d\] hello\n$/)
  })
})

const SKIPPED: RunResult = {
  image: 'web',
  status: 'failed',
  held: false,
  templates: [],
  seconds: 0,
  error: { what: 'web was skipped', why: 'its parent debian-base failed' },
}

test('of several images each says how it ended, of one alone the result does', () => {
  const lines = (images: string[]) => {
    let text = ''
    const sink = plainRenderer({ write: (part: string) => (text += part) })
    sink({ type: 'run.start', images, target: 'lab' })
    sink({ type: 'image.end', image: 'debian-base', result: { ...BUILT, status: 'unchanged', seconds: 1 } })
    sink({ type: 'image.end', image: 'web', result: SKIPPED })
    return text.replaceAll(/^\[ *\d+\.\d\] /gm, '')
  }
  expect(lines(['debian-base', 'web'])).toBe(
    'debian-base  unchanged  template 9000 on lab  (1.0s)\n' +
      'web  failed  (0.0s): web was skipped: its parent debian-base failed\n',
  )
  expect(lines(['debian-base'])).toBe('')
})

test('NDJSON: one object per line, the last one is the end of the run as promised', () => {
  let text = ''
  const sink = jsonRenderer({ write: (part: string) => (text += part) })
  sink(output('a\nb'))
  sink({ type: 'run.end', schema: 1, results: [BUILT] })
  const lines = text.split('\n')
  expect(lines).toHaveLength(3)
  expect(lines[2]).toBe('')
  expect(JSON.parse(lines[0] ?? '')).toEqual(output('a\nb'))
  expect(JSON.parse(lines[1] ?? '')).toEqual({
    type: 'run.end',
    schema: 1,
    results: [
      {
        image: 'debian-base',
        status: 'built',
        held: false,
        templates: [TEMPLATE],
        template: TEMPLATE,
        seconds: 192,
      },
    ],
  })
})

test('the log file has everything, for its owner’s eyes, and is complete when it is closed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-log-'))
  try {
    const path = join(folder, 'logs/run.log')
    const log = logFile(path)
    for (let line = 0; line < 1000; line += 1) log(output(`line ${line}`))
    await log.close()
    const lines = (await readFile(path, 'utf8')).trimEnd().split('\n')
    expect(lines).toHaveLength(1000)
    expect(lines.at(-1)).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z web \| line 999$/)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('the log says how an image ended, and there is none where nothing happened', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-log-'))
  try {
    const quiet = logFile(join(folder, 'quiet.log'))
    quiet({ type: 'image.end', image: 'x', result: { ...BUILT, status: 'unchanged' } })
    await quiet.close()
    const failed = logFile(join(folder, 'failed.log'))
    const error = { what: 'layer “x” failed', why: 'it ended with exit code 3' }
    failed({ type: 'image.end', image: 'web', result: { ...BUILT, image: 'web', status: 'failed', error } })
    await failed.close()
    expect(await readdir(folder)).toEqual(['failed.log'])
    expect(await readFile(join(folder, 'failed.log'), 'utf8')).toContain(
      'layer “x” failed: it ended with exit code 3',
    )
  } finally {
    await rm(folder, { recursive: true })
  }
})

const ESC = '\x1b\\['
const UP = new RegExp(`^${ESC}(\\d+)F$`)
const MOVES = new RegExp(`(${ESC}\\?\\d+[lh]|${ESC}\\d+F|${ESC}J|\n)`)

describe('a terminal', () => {
  function terminal(columns = 40) {
    const out = Object.assign(new PassThrough(), { columns, isTTY: true, getColorDepth: () => 1 })
    let text = ''
    out.on('data', (chunk: Buffer) => {
      text += chunk
    })
    const renderer = new TerminalRenderer(out as unknown as NodeJS.WriteStream)
    return { renderer, out, text: () => text, screen: () => screenOf(text) }
  }

  /** The lines that one sees after all that was written. */
  function screenOf(text: string): string[] {
    const lines = ['']
    let row = 0
    for (const part of text.split(MOVES)) {
      const up = UP.exec(part)
      if (up) row -= Number(up[1])
      else if (part === '\x1b[J') lines.splice(row, lines.length, '')
      else if (part === '\n') lines[++row] ??= ''
      else if (!part.startsWith('\x1b[?')) lines[row] += part
      if (row < 0) throw new Error('it clears lines that are not its own')
    }
    return lines
  }

  test('shows one live line per image, with its step and the last line of its output', () => {
    vi.useFakeTimers()
    const { renderer, screen } = terminal(120)
    using _renderer = renderer
    renderer.sink({ type: 'step.start', ...STEP })
    renderer.sink({ type: 'step.start', ...STEP, image: 'db' })
    renderer.sink(output('first'))
    renderer.sink(output('\x1b[32msecond\x1b[0m'))
    vi.advanceTimersByTime(2050)
    const lines = screen()
    expect(lines).toHaveLength(3)
    expect(lines[0]).toMatch(/^… web {2}booting {2}2\.\ds \/ 2\.\ds {2}second$/)
    expect(lines[1]).toMatch(/^… db {2}booting/)
  })

  test('lets finished steps and warnings scroll by above it', () => {
    const { renderer, screen } = terminal(120)
    using _renderer = renderer
    renderer.sink({ type: 'step.start', ...STEP })
    renderer.sink({ type: 'step.end', ...STEP, seconds: 2, ok: true })
    renderer.sink({ type: 'step.start', ...STEP, label: 'sealing' })
    renderer.sink({ type: 'warning', image: 'web', message: 'careful' })
    const lines = screen()
    expect(lines.slice(0, 2)).toEqual(['✓ web  booting  2.0s', 'web: warning: careful'])
    expect(lines[2]).toMatch(/^… web {2}sealing/)
    expect(lines).toHaveLength(4)
  })

  test('cuts lines to its width: a wrapped one could not be cleared', () => {
    const { renderer, screen } = terminal(40)
    using _renderer = renderer
    renderer.sink({ type: 'step.start', ...STEP })
    renderer.sink(output(`${'ü😀'.repeat(50)}`))
    renderer.sink({ type: 'info', message: 'x' })
    expect([...(screen()[1] ?? '')]).toHaveLength(39)
  })

  test('leaves room for the time and the output beside a long step', () => {
    const { renderer, screen } = terminal(80)
    using _renderer = renderer
    renderer.sink({ type: 'step.start', ...STEP, label: `layer 1/3: packages: ${'curl, '.repeat(20)}` })
    renderer.sink(output('Setting up libc6'))
    renderer.sink({ type: 'info', message: 'x' })
    expect(screen()[1]).toMatch(
      /^… web {2}layer 1\/3: packages: .*… {2}0\.\ds \/ 0\.\ds {2}Setting up libc6$/,
    )
  })

  test('of several images, the line of one that has ended goes, and how it ended stays above the others', () => {
    const { renderer, screen } = terminal(120)
    using _renderer = renderer
    renderer.sink({ type: 'run.start', images: ['web', 'db'], target: 'lab' })
    renderer.sink({ type: 'step.start', ...STEP })
    renderer.sink({ type: 'step.start', ...STEP, image: 'db' })
    renderer.sink({ type: 'image.end', image: 'web', result: SKIPPED })
    const lines = screen()
    expect(lines[0]).toMatch(/^web {2}failed .*its parent debian-base failed$/)
    expect(lines[1]).toMatch(/^… db {2}booting/)
    expect(lines).toHaveLength(3)
  })

  test('of an image on several nodes, each has a line; all go with the image', () => {
    const { renderer, screen } = terminal(120)
    using _renderer = renderer
    for (const node of ['a', 'b']) renderer.sink({ type: 'step.start', ...STEP, node })
    renderer.sink({ ...output('in b'), node: 'b' } as Event)
    renderer.sink({ type: 'step.end', ...STEP, node: 'a', seconds: 1, ok: true })
    expect(screen()).toContainEqual(expect.stringMatching(/^✓ web \(a\) {2}booting {2}1\.0s$/))
    expect(screen()).toContainEqual(expect.stringMatching(/^… web \(b\) {2}booting .*in b$/))
    renderer.sink({ type: 'image.end', image: 'web', result: SKIPPED })
    expect(screen().filter((line) => line.startsWith('…'))).toEqual([])
  })

  test('never grows higher than the window: what scrolls away could not be cleared', () => {
    const { renderer, screen, out } = terminal(120)
    using _renderer = renderer
    Object.assign(out, { rows: 6 })
    for (let image = 0; image < 9; image += 1)
      renderer.sink({ type: 'step.start', ...STEP, image: `image-${image}` })
    renderer.sink({ type: 'info', message: 'x' })
    const lines = screen()
    expect(lines).toHaveLength(1 + 4 + 1)
    expect(lines[4]).toBe('… and 6 more')
  })

  test('writes nothing while nothing changes', () => {
    vi.useFakeTimers()
    const { renderer, text } = terminal()
    using _renderer = renderer
    renderer.sink({ type: 'step.start', ...STEP })
    vi.advanceTimersByTime(20_000)
    const before = text().length
    vi.advanceTimersByTime(400)
    expect(text().length - before).toBeLessThan(60)
  })

  test('clears what a narrower window has wrapped', () => {
    const { renderer, text, out } = terminal(80)
    using _renderer = renderer
    renderer.sink({ type: 'step.start', ...STEP })
    renderer.sink(output('o'.repeat(80)))
    renderer.sink({ type: 'info', message: 'x' })
    out.columns = 40
    const before = text().length
    renderer.sink({ type: 'info', message: 'y' })
    expect(text().slice(before).startsWith('\x1b[2F\x1b[Jy\n')).toBe(true)
  })

  test('lets nothing that a guest prints move the cursor', () => {
    const { renderer, text } = terminal(200)
    renderer.sink({ type: 'step.start', ...STEP })
    renderer.sink(output('a\tb\rc\x07d\x1b[2Je\x9b1Af\ng'))
    renderer.sink({ type: 'info', message: 'x' })
    const live =
      text()
        .split('\n')
        .find((line) => line.includes('a b')) ?? ''
    expect(live).toContain('a b c d')
    expect(live.slice(live.indexOf('…'))).not.toMatch(/\p{Cc}/u)
    renderer[Symbol.dispose]()
  })

  test('shows how far a transfer is', () => {
    const { renderer, screen } = terminal(120)
    using _renderer = renderer
    renderer.sink({ type: 'step.start', ...STEP, label: 'uploading' })
    renderer.sink({
      type: 'progress',
      image: 'web',
      step: 'upload',
      done: 2 ** 20,
      total: 2 ** 22,
      unit: 'bytes',
    })
    renderer.sink({ type: 'info', message: 'x' })
    expect(screen()[1]).toContain('1.0 MiB of 4.0 MiB (25 %)')
  })

  test('is left as it was: no live line, the cursor back, no timer, no listener', () => {
    vi.useFakeTimers()
    const listeners = process.listenerCount('exit')
    const { renderer, text, screen } = terminal()
    renderer.sink({ type: 'step.start', ...STEP })
    vi.advanceTimersByTime(100)
    expect(text().startsWith('\x1b[?25l')).toBe(true)
    expect(process.listenerCount('exit')).toBe(listeners + 1)
    renderer[Symbol.dispose]()
    expect(screen()).toEqual([''])
    expect(text().endsWith('\x1b[?25h')).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
    expect(process.listenerCount('exit')).toBe(listeners)
  })
})

test('a secret that a guest prints reaches no sink', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'imagebuild-redact-'))
  try {
    const secrets = new SecretRegistry()
    secrets.add('hunter2')
    let seen = ''
    const out = Object.assign(new PassThrough(), { columns: 120, isTTY: true, getColorDepth: () => 1 })
    out.on('data', (chunk: Buffer) => {
      seen += chunk
    })
    const writer = { write: (part: string) => (seen += part) }
    using terminal = new TerminalRenderer(out as unknown as NodeJS.WriteStream)
    const log = logFile(join(folder, 'run.log'))
    const emit = createBus(secrets, [terminal.sink, plainRenderer(writer), jsonRenderer(writer), log])
    emit({ type: 'step.start', ...STEP })
    emit(output('password: hunter2'))
    emit({ type: 'warning', message: 'hunter2' })
    emit({ type: 'step.end', ...STEP, label: 'hunter2', seconds: 1, ok: false })
    await log.close()
    seen += await readFile(join(folder, 'run.log'), 'utf8')
    expect(seen).not.toContain('hunter2')
    expect(seen.split(REDACTED).length).toBeGreaterThan(8)
  } finally {
    await rm(folder, { recursive: true })
  }
})
