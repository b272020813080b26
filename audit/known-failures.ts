/**
 * Rules of OpenSCAP's profiles that a template of ours does not keep, and why. They count as failed all the same; a rule
 * that fails and is not listed here is reported as such.
 */
export const KNOWN_FAILURES: Readonly<Record<string, string>> = {
  aide_build_database:
    'the rule looks for `database=`, which AIDE 0.18 calls deprecated: ours says `database_in=`; the database is made',
  disable_users_coredumps:
    'Debian 13’s own 10-coredump-debian.conf says otherwise; ours sorts after it and counts, and a changed one would keep unattended upgrades from systemd',
  grub2_password:
    'a password in the boot loader would be the same on all clones, and whoever sees the console is let in by Proxmox',
  journald_forward_to_syslog: 'messages are kept by journald, and there is no rsyslog to forward them to',
  package_chrony_installed: 'the clock is set by systemd-timesyncd: the benchmark wants one service',
  package_cron_installed: 'nothing here needs cron: systemd has timers',
  package_iptables_installed:
    'the firewall is nftables: the benchmark wants one of the three, the profile all of them',
  package_rsyslog_installed: 'messages are kept by journald: the benchmark wants one of the two',
  'package_systemd-journal-remote_installed': 'which server takes the logs only the site knows',
  package_ufw_installed:
    'the firewall is nftables: the benchmark for Debian 12 wants one of the three, its profile all of them; that for 13 wants ufw',
  permissions_local_var_log:
    'wtmp, btmp and lastlog, which the group utmp writes, and logs of dpkg and cloud-init are as Debian makes them',
  rsyslog_filecreatemode: 'there is no rsyslog',
  service_cron_enabled: 'nothing here needs cron: systemd has timers',
  service_rsyslog_enabled: 'there is no rsyslog',
  set_nftables_base_chain:
    'the rule’s own script ends with an error, probably since /tmp is mounted noexec; the base chains are there',
  sshd_use_strong_macs:
    'umac-128-etm@openssh.com, which ssh-audit’s policy for a hardened Debian 12 demands, is not in the rule’s list',
  sysctl_kernel_kptr_restrict: 'ours is 2, which hides addresses from root, too; the profile wants 1',
  sysctl_net_ipv4_conf_default_rp_filter:
    'Debian 13’s own 50-default.conf says 2; ours sorts after it and counts: verification asks each card',
  systemd_journal_upload_server_tls: 'which server takes the logs only the site knows',
  systemd_journal_upload_url: 'which server takes the logs only the site knows',
}
