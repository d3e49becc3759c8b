# shellcheck shell=sh
# Waits until the clock is right. Input: $NOW, the controller's time; $CLOCK_LIMIT, by how many seconds they may differ;
# $PATIENCE, how many seconds to wait for a time server. If the clock stays wrong, it says both times and what to do.
export LC_ALL=C

# Seconds since the start. The clock itself may jump.
uptime() { sed 's/[. ].*//' /proc/uptime; }
started=$(uptime)
now() { echo $((NOW + $(uptime) - started)); }
is_right() {
  off=$(($(date +%s) - $(now)))
  [ ${off#-} -le "$CLOCK_LIMIT" ]
}
is_set() { [ "$(timedatectl show --property=NTPSynchronized --value 2>/dev/null)" = yes ]; }
time_of() { date -u -d "@$1" '+%Y-%m-%d %H:%M UTC'; }

until is_right || is_set || [ $(($(uptime) - started)) -ge "$PATIENCE" ]; do sleep 2; done
is_right && exit
if is_set; then
  why="a time server has set it, so see whether the clock here is right"
else
  why="no time server (NTP) has set it, also after $PATIENCE s: see what timedatectl says there, or set it: "
  why="${why}sudo date -u -s '$(date -u -d "@$(now)" '+%Y-%m-%d %H:%M:%S')'"
fi
echo "its clock says $(time_of "$(date +%s)"), and here it is $(time_of "$(now)"): $why" >&2
exit 1
