# What a host is, as YAML. Sent as a command line before anything is known of the host.
. /etc/os-release
echo "release: '${VERSION_ID:-}'"
# Why it cannot be served at all.
case "$ID ${VERSION_ID:-}" in
  'debian 12' | 'debian 13' | 'raspbian 12' | 'raspbian 13')
    if ! /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      fault='has no Python 3.11 or later: sudo apt install python3'
    elif [ ! -d /run/systemd/system ]; then
      fault='was not started by systemd, which runs the daemons'
    else
      fault=
    fi ;;
  *) fault="runs $PRETTY_NAME: ttyfleet serves Debian and Raspberry Pi OS 12 (bookworm) and 13 (trixie)" ;;
esac
echo "fault: '$fault'"
echo 'packages: {'
dpkg-query --show --showformat='${db:Status-Status} ${Package} ${Version}\n' python3-serial python3-uvloop \
  python3-prometheus-client python3-apt ssl-cert ser2net nftables 2>/dev/null |
  sed -n "s/^installed \(.*\) \(.*\)/  \1: '\2',/p"
echo '}'
echo 'units: ['
for unit in ttybridge.service ser2net.service.d/ttyfleet.conf ttyfleet-firewall.service; do
  [ ! -e /etc/systemd/system/$unit ] || echo "  $unit,"
done
echo ']'
# Programs of ttybridge, the last used first, and the one in use.
echo "programs: [$(ls -t /usr/local/lib/ttybridge 2>/dev/null | sed "s/.*/'&', /" | tr -d '\n')]"
echo "program: '$(basename "$(readlink /usr/local/bin/ttybridge 2>/dev/null)")'"
# What ser2net was before the first run ("enabled active"), and its configurations: those that are not ours, those that
# are kept to be put back, and ours.
ours() { grep -qs '^# Written by ttyfleet' "$1"; }
echo 'ser2net: {'
echo "  before: '$(tr '\n' ' ' 2>/dev/null </var/lib/ttyfleet/ser2net.service)',"
for which in foreign kept ours; do
  echo "  $which: ["
  for file in /etc/ser2net.conf /etc/ser2net.yaml; do
    case $which in
      foreign) [ -e $file ] && ! ours $file ;;
      kept) [ -e /var/lib/ttyfleet/${file#/etc/} ] ;;
      ours) ours $file ;;
    esac && echo "    $file,"
  done
  echo '  ],'
done
echo '}'
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
# The firewall by what the kernel has, beside what its file makes in an empty network: a flush leaves no trace.
firewall=ttyfleet-firewall.service
if [ -e /etc/systemd/system/$firewall ]; then
  wanted=$(unshare --net sh -c 'nft --file /etc/ttyfleet.nft && nft list table inet ttyfleet' 2>/dev/null)
  systemctl -q is-active $firewall && systemctl -q is-enabled $firewall &&
    [ "$(nft list table inet ttyfleet 2>&1)" = "$wanted" ] || echo "  $firewall,"
fi
echo ']'
# Who listens where on TCP, and the users of our units: in a container root cannot see whose a socket is.
echo 'listening: ['
ss --no-header --listening --tcp --numeric --processes --extended 2>/dev/null |
  while read -r _ _ _ at _ rest; do
    user=$(expr "$rest" : '.*uid:\([0-9]*\)')
    program=$(expr "$rest" : '.*users:(("\([^"]*\)"' | tr -cd '[:alnum:]._-')
    units=
    for pid in $(echo "$rest" | grep -o 'pid=[0-9]*' | cut -d = -f 2); do
      units="$units$(sed -n 's,^\(0\|1:name=systemd\):.*/\([^/]*\.service\).*,"\2"\, ,p' "/proc/$pid/cgroup" 2>/dev/null)"
    done
    echo "  {at: '$at', user: ${user:-0}, program: '$program', units: [$units]},"
  done
echo ']'
echo 'users: {'
for unit in ttybridge.service ser2net.service; do
  echo "  $unit: '$(systemctl show --property=UID --value $unit 2>/dev/null)',"
done
echo '}'
# What a Pi boots with, for the role uart; texts in base64.
boot=
for folder in /boot /boot/firmware; do
  [ ! -e $folder/config.txt ] || boot=$folder
done
text() { echo "  $1: '$([ ! -e "$2" ] || base64 --wrap=0 "$2")',"; }
is() { "$@" && echo true || echo false; }
echo 'boot: {'
echo "  model: '$([ ! -e /proc/device-tree/model ] || tr -d '\0' </proc/device-tree/model)',"
echo "  folder: '$boot',"
echo "  writable: $(is [ -w "$boot/" ]),"
echo "  mode: '$([ -z "$boot" ] || stat --format=0%a $boot/config.txt)',"
text config "$boot/config.txt"
text cmdline "$boot/cmdline.txt"
text kept "$boot/cmdline.txt.ttyfleet"
text running /proc/cmdline
echo "  hciuart: $(is [ -e /usr/lib/systemd/system/hciuart.service ]),"
echo "  masked: [$(find /etc/systemd/system -maxdepth 1 -lname /dev/null -printf "'%f', ")],"
echo "  ours: [$(sed "s/.*/'&',/" /var/lib/ttyfleet/masked-units 2>/dev/null)],"
echo "  reboot: $(is [ -e /run/ttyfleet-reboot ])"
echo '}'
