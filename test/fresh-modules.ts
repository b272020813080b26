import { vi } from 'vitest'

/** Test files of one worker share a process, which spares starting one for each; the project's modules are each file's own. */
vi.resetModules()
