# shellcheck shell=sh
# Keeps files and units as they are before a run changes them, for restore_state.sh. Input: $PATHS.
# What an interrupted run has kept stays: that was the last good state.
set -eu
umask 077
# cp --parents makes folders relative to this one, also of a path that begins with a slash.
cd /
state=/var/lib/ttyfleet/last-good
mkdir -p $state/files
# As the roles make it.
chmod 755 /var/lib/ttyfleet
touch $state/paths
for path in $PATHS; do
  if ! grep -qxF "$path" $state/paths; then
    if [ -e "$path" ] || [ -L "$path" ]; then cp --archive --parents "$path" $state/files/; fi
    echo "$path" >>$state/paths
  fi
done
if [ ! -e $state/units ]; then
  for unit in ttyfleet-firewall.service ser2net.service ttybridge.service ttyfleet-pull.timer \
    avahi-daemon.service; do
    echo "$unit $(systemctl is-enabled $unit 2>/dev/null || :) $(systemctl is-active $unit 2>/dev/null || :)"
  done >$state/units.new
  mv $state/units.new $state/units
fi
sync --file-system $state
# How the ports were, for whoever looks whether they are so again.
status=$(timeout 10 ttybridge status --json 2>/dev/null) || status='{}'
printf '%s\n' "$status"
