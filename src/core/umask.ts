/**
 * What a process of ours, and every tool that it starts, leaves to the umask has the usual modes: a system that is
 * bootstrapped in a shell with `umask 077` must be the one that any other shell gives. What is secret says so itself.
 */
export function useUsualModes(): void {
  process.umask(0o022)
}
