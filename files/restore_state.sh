# shellcheck shell=sh
# Goes back to the state that save_state.sh has kept, and says so. Without one it does nothing.
set -u
state=/var/lib/ttyfleet/last-good
[ -e $state/units ] || exit 0
# Why the run failed, in the words of a daemon that does not run.
while read -r unit _ active; do
  [ "$active" != active ] || systemctl -q is-active "$unit" ||
    echo "$unit said: $(journalctl --quiet --boot --lines=1 --output=cat "_SYSTEMD_UNIT=$unit")"
done <$state/units
touched() { grep -qE "$1" $state/paths; }
# Longer paths first, so that a folder is empty when its turn comes.
sort -r $state/paths | while read -r path; do
  if [ -e "$state/files$path" ] || [ -L "$state/files$path" ]; then
    mkdir -p "${path%/*}"
    [ ! -d "$path" ] || [ -L "$path" ] || rm -r "$path"
    # In one step, also a program that runs.
    cp --archive "$state/files$path" "$path.ttyfleet" && mv --no-target-directory "$path.ttyfleet" "$path"
  elif [ -d "$path" ] && [ ! -L "$path" ]; then
    rmdir --ignore-fail-on-non-empty "$path"
  else
    rm -f "$path"
  fi || exit
done || exit
systemctl daemon-reload
if touched '^/etc/udev/' && [ -S /run/udev/control ]; then
  udevadm control --reload && udevadm trigger --subsystem-match=tty --action=add --settle
fi
# sshd goes on with the earlier file; a run that is cut short may have left a new one.
if touched '^/etc/ssh/' && /usr/sbin/sshd -t; then systemctl try-reload-or-restart ssh.service; fi
failed=0
while read -r unit enabled active; do
  case $enabled in
    masked) systemctl mask --now "$unit" 2>/dev/null ;;
    enabled) systemctl enable "$unit" 2>/dev/null ;;
    *) systemctl disable "$unit" 2>/dev/null ;;
  esac
  case $unit in
    ttyfleet-firewall*) files='nft|firewall' how=reload-or-restart ;;
    ser2net*) files='ser2net' how=restart ;;
    ttyfleet-pull*) files='ttyfleet-pull' how=restart ;;
    avahi*) files='avahi' how=reload-or-restart ;;
    *)
      files='/usr/local/|ttybridge[.]service' how=restart
      touched "$files" || files='ttybridge[.]toml' how=reload-or-restart ;;
  esac
  # A daemon that this run has not restarted or reloaded still runs with the earlier files: nobody is disconnected.
  since=$(systemctl show --timestamp=us+utc --property=StateChangeTimestamp --value "$unit")
  case $unit in
    ser2net.service | ttybridge.service)
      [ -z "$(find $state -name units -newermt "$since" 2>/dev/null)" ] || ! systemctl -q is-active "$unit" || how= ;;
  esac
  if [ "$active" = activating ] || [ "$active" = failed ]; then
    # It tried to start before the run, and tries again.
    systemctl --no-block start "$unit"
  elif [ "$active" != active ]; then
    systemctl stop "$unit" 2>/dev/null
  elif [ -n "$how" ] && touched "$files"; then
    systemctl $how "$unit" || failed=1
  else
    systemctl start "$unit" || failed=1
  fi
done <$state/units
[ $failed = 0 ] || exit 1
rm -r $state
