/**
 * Has sshd read its configuration. Where the port is its socket's (Ubuntu since 22.10), it need not run: the next connection
 * starts it. Debian 13's loses that socket when it is reloaded, and ends, which is as good.
 */
export const RELOAD_SSHD =
  'systemctl try-reload-or-restart ssh.service || systemctl --quiet is-active ssh.socket'
