# What a host is, as YAML. Sent as a command line before anything is known of the host.
. /etc/os-release
echo "name: '$PRETTY_NAME'"
echo "system: '$ID'"
echo "release: '${VERSION_ID:-}'"
echo "python: $(/usr/bin/python3 -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null || echo false)"
echo "systemd: $([ -d /run/systemd/system ] && echo true || echo false)"
echo 'packages: {'
dpkg-query --show --showformat='${db:Status-Status} ${Package} ${Version}\n' python3-serial ser2net 2>/dev/null |
  sed -n "s/^installed \(.*\) \(.*\)/  \1: '\2',/p"
echo '}'
echo 'units: ['
for unit in ttybridge.service ser2net.service.d/ttyfleet.conf; do
  [ ! -e /etc/systemd/system/$unit ] || echo "  $unit,"
done
echo ']'
