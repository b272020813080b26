/** Whether a CI system runs this: all of them set `CI`. */
export function isOnCi(): boolean {
  return !['', '0', 'false'].includes(process.env.CI ?? '')
}
