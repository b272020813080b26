/**
 * Rules of OpenSCAP's profile that a template of ours does not keep, and why. They count as failed all the same; a rule
 * that fails and is not listed here is reported as such.
 */
export const KNOWN_FAILURES: Readonly<Record<string, string>> = {
  grub2_password:
    'a password in the boot loader would be the same on all clones, and whoever sees the console is let in by Proxmox',
  package_iptables_installed:
    'the firewall is nftables: the benchmark wants one of the three, the profile all of them',
  package_ufw_installed:
    'the firewall is nftables: the benchmark wants one of the three, the profile all of them',
  systemd_journal_upload_server_tls: 'which server takes the logs only the site knows',
  systemd_journal_upload_url: 'which server takes the logs only the site knows',
}
