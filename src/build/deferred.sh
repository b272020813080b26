#!/bin/sh
# Has what packages do to the whole system happen once, instead of after each change: the initial RAM disk, the boot loader's
# menu, the index of manual pages. And keeps the guest's own updates from doing anything meanwhile. Runs as root.
#
#   ACTION  `hold` before the first layer and after a reboot, `run` after the last layer and before a reboot
set -eu
umask 022
asked=/run/imagebuild-deferred
programs='/usr/sbin/update-initramfs /usr/sbin/update-grub /usr/bin/mandb'

if [ "$ACTION" = hold ]; then
  # What they start takes the lock of apt, and changes packages while the layers do.
  systemctl stop apt-daily.timer apt-daily-upgrade.timer 2>/dev/null || true
  # For everybody: man-db runs its program as the user man.
  [ -e "$asked" ] || : > "$asked"
  chmod 0666 "$asked"
  for program in $programs; do
    [ -x "$program" ] && [ ! -e "$program.imagebuild" ] || continue
    mv "$program" "$program.imagebuild"
    # An upgrade of its package puts the real one here again, and then it is no longer held: no harm. What removes
    # something (`update-initramfs -d`) is not put off.
    cat > "$program" <<STUB
#!/bin/sh
# Held by imagebuild until the layers are done.
case " \$* " in *' -d '*) exec $program.imagebuild "\$@" ;; esac
echo ${program##*/} >> $asked
echo '${program##*/} is put off until the layers are done'
STUB
    chmod 0755 "$program"
  done
  exit 0
fi

for program in $programs; do
  [ -e "$program.imagebuild" ] || continue
  if grep -qs '^# Held by imagebuild' "$program"; then mv "$program.imagebuild" "$program"; else rm "$program.imagebuild"; fi
done
# A later layer may have removed it again.
is_asked() { grep -qsx "${1##*/}" "$asked" && [ -x "$1" ]; }
if is_asked /usr/sbin/update-initramfs; then
  for kernel in /boot/vmlinuz-*; do
    [ -e "$kernel" ] || continue
    version=${kernel#/boot/vmlinuz-}
    if [ -e "/boot/initrd.img-$version" ]; then update-initramfs -u -k "$version"; else update-initramfs -c -k "$version"; fi
  done
fi
# Where there is a new initial RAM disk, it belongs into the menu.
if [ -x /usr/sbin/update-grub ] && { is_asked /usr/sbin/update-grub || is_asked /usr/sbin/update-initramfs; }; then update-grub 2>&1; fi
if is_asked /usr/bin/mandb; then dpkg-trigger --by-package=man-db /usr/share/man; dpkg --triggers-only man-db; fi
rm -f "$asked"
