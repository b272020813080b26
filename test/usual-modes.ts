import { useUsualModes } from '../src/core/umask.ts'

/** Fixtures have the modes that they are written with, whatever the umask of the shell that starts the tests. */
useUsualModes()
