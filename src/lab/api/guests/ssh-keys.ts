import { execa } from 'execa'
import { failure } from '../errors.ts'

/** As Proxmox checks them: each line alone, by ssh-keygen, which takes a comment for no key. @throws ApiError 500 */
export async function checkPublicKeys(text: string): Promise<void> {
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue
    const { failed } = await execa('ssh-keygen', ['-l', '-f', '-'], { input: line, reject: false })
    if (failed) throw failure('SSH public key validation error')
  }
}
