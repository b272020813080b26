/**
 * Proxmox makes a new container's SSH host keys and prints their fingerprints in the task that creates it. The
 * task's log comes over a connection whose server is known, so the container is known before its first packet.
 *
 *     Creating SSH host key 'ssh_host_ed25519_key' - this may take some time ...
 *     done: SHA256:… root@<hostname>
 */
export class HostKeyLog {
  #file: string | undefined
  #fingerprint: string | undefined

  /** takes one line of the task's log */
  read(line: string): void {
    const file = /^Creating SSH host key '([^']+)'/.exec(line)?.[1]
    if (file !== undefined) this.#file = file
    const fingerprint = /^done: (SHA256:[A-Za-z0-9+/]{43}) /.exec(line)?.[1]
    if (fingerprint === undefined) return
    if (this.#file === 'ssh_host_ed25519_key') this.#fingerprint = fingerprint
    this.#file = undefined
  }

  /** of the container's Ed25519 key; undefined where Proxmox has made none: its archive has no /etc/ssh */
  get fingerprint(): string | undefined {
    return this.#fingerprint
  }
}
