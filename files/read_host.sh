# What a host is, as YAML. Sent as a command line before anything is known of the host.
. /etc/os-release
echo "name: '$PRETTY_NAME'"
echo "system: '$ID'"
echo "release: '${VERSION_ID:-}'"
echo "python: $(/usr/bin/python3 -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null || echo false)"
echo "systemd: $([ -d /run/systemd/system ] && echo true || echo false)"
echo 'packages: {'
dpkg-query --show --showformat='${db:Status-Status} ${Package} ${Version}\n' python3-serial python3-uvloop \
  python3-prometheus-client ssl-cert ser2net 2>/dev/null |
  sed -n "s/^installed \(.*\) \(.*\)/  \1: '\2',/p"
echo '}'
echo 'units: ['
for unit in ttybridge.service ser2net.service.d/ttyfleet.conf; do
  [ ! -e /etc/systemd/system/$unit ] || echo "  $unit,"
done
echo ']'
# Units that run without what is in their files: an earlier run was cut short before it restarted them.
stale() {
  unit=$1
  shift
  systemctl -q is-active $unit 2>/dev/null || return 0
  since=$(systemctl show --timestamp=us+utc --property=StateChangeTimestamp --value $unit)
  [ -z "$(find "$@" -newermt "$since" 2>/dev/null)" ] || echo "  $unit,"
}
echo 'stale: ['
stale ttybridge.service /usr/local/bin/ttybridge /etc/ttybridge/ttybridge.toml /etc/systemd/system/ttybridge.service
dropin=/etc/systemd/system/ser2net.service.d/ttyfleet.conf
[ ! -e $dropin ] || stale ser2net.service $dropin $(sed -n 's/^ExecStart=.* -c //p' $dropin)
echo ']'
