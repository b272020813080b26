/**
 * Has sshd read its configuration. Where systemd has the port (ssh.socket: Ubuntu since 22.10), a reload ends Debian 13's sshd:
 * stopped, it is started anew by the next connection. Sessions go on either way.
 */
export const RELOAD_SSHD =
  'if systemctl --quiet is-active ssh.socket; then systemctl stop ssh.service; else systemctl try-reload-or-restart ssh.service; fi'
