/** Umasks that people and services have: the usual one, that of a hardened login, and that of a careful root. */
export const UMASKS = ['022', '027', '077']

/** Does something as a shell with this umask would. Nothing else may run in this process meanwhile. */
export async function underUmask<T>(umask: string, act: () => Promise<T>): Promise<T> {
  const before = process.umask(umask)
  try {
    return await act()
  } finally {
    process.umask(before)
  }
}
