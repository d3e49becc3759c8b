# shellcheck shell=sh
# What a host is, as YAML. Sent as a command line before anything is known of the host.
# Input: $PLACES, the files and folders that the roles may write; $DEVICES, the devices of the ports; $USERS, the accounts
# of serial_users; $NETWORK, the text of bridge/src/ttybridge/setup/listeners.py, without which nothing is said of the
# network; $NOW, the controller's time; and $CLOCK_LIMIT, by how many seconds the host's may differ.
export LC_ALL=C

# Texts of a host can hold anything. They are quoted, on one line, with ? for what is not printable ASCII.
quoted() {
  case $1 in
    *[!A-Za-z0-9\ ._:/+-]*) printf "'%s'" "$(printf %s "$1" | tr -c ' -~' '?' | sed "s/'/''/g")" ;;
    *) printf "'%s'" "$1" ;;
  esac
}
each_quoted() { tr -c ' -~\n' '?' | sed "s/'/''/g; s/.*/'&',/"; }
say() { printf '%s: %s%s\n' "$1" "$(quoted "$2")" "$3"; }
is() { "$@" && echo true || echo false; }
# has WORDS WORD: whether the word is one of the words, which have blanks between them.
has() { case " $1 " in *" $2 "*) ;; *) return 1 ;; esac; }

# os-release(5) is written for a shell, but is not run by one: a faulty line would end this script.
release() {
  sed -n "s/^$1=//p" /etc/os-release 2>/dev/null | tail -n 1 |
    sed "s/[[:space:]]*$//; s/^\"\(.*\)\"$/\1/; s/^'\(.*\)'$/\1/; s/\\\\\(.\)/\1/g"
}
version=$(release VERSION_ID)
say release "$version"
case $(/usr/bin/python3 --version 2>&1) in
  'Python 3.1'[1-9]* | 'Python 3.'[2-9][0-9]*) python=yes ;;
  *) python= ;;
esac
# Why the host cannot be served at all.
fault=
case "$(release ID) $version" in
  'debian 12' | 'debian 13' | 'raspbian 12' | 'raspbian 13')
    if [ -z "$python" ]; then
      fault='has no Python 3.11 or later: sudo apt install python3'
    elif [ ! -d /run/systemd/system ]; then
      fault='was not started by systemd, which runs the daemons'
    fi ;;
  *)
    name=$(release PRETTY_NAME)
    fault="runs ${name:-a system without a name}: ttyfleet serves Debian and Raspberry Pi OS 12 (bookworm) and 13 (trixie)" ;;
esac
say fault "$fault"
# Why the host would lose what is written there. A container has an overlay of its own, which stays.
kind=
options=
mounts=/proc/mounts
[ -r $mounts ] || mounts=/dev/null
while read -r _ place type words _; do
  [ "$place" != / ] || { kind=$type options=$words; }
done <$mounts
in_memory() {
  case $kind in
    overlay | overlayfs | aufs | tmpfs | ramfs) ;;
    *) return 1 ;;
  esac
  case $options in
    *upperdir=*) upper=${options##*upperdir=} upper=${upper%%,*} ;;
    *) upper= ;;
  esac
  if [ -d "$upper" ]; then
    case $(stat --file-system --format=%T "$upper") in
      tmpfs | ramfs) return 0 ;;
    esac
    return 1
  fi
  grep -qsE '(^| )(boot=overlay|overlayroot=tmpfs|systemd\.volatile=)' /proc/cmdline ||
    ! systemd-detect-virt --quiet --container
}
switch='switch the overlay off (sudo raspi-config nonint do_overlayfs 1 && sudo reboot), run this again, and switch it on again (do_overlayfs 0)'
not_kept=
case ,$options, in
  *,ro,*) not_kept="its root file system is read-only: make it writable (sudo mount -o remount,rw /)" ;;
  *) ! in_memory || not_kept="its root file system is an overlay in memory, so the next start loses what a run changes: $switch" ;;
esac
say not_kept "$not_kept"
# By how many seconds its clock is ahead of the controller's; 0 if they agree.
ahead=$(($(date +%s) - ${NOW:-$(date +%s)}))
[ ${ahead#-} -gt "${CLOCK_LIMIT:-0}" ] || ahead=0
echo "clock: $ahead"
echo 'packages: {'
dpkg-query --show --showformat='${db:Status-Status} ${Package} ${Version}\n' python3-serial python3-uvloop \
  python3-prometheus-client ssl-cert ser2net nftables brltty openssh-server ansible-core git openssh-client \
  avahi-daemon 2>/dev/null |
  sed -n "s/^installed \(.*\) \(.*\)/  \1: '\2',/p"
echo '}'
echo 'units: ['
for unit in ttybridge.service ser2net.service.d/ttyfleet.conf ttyfleet-firewall.service ttyfleet-pull.timer; do
  [ ! -e /etc/systemd/system/$unit ] || echo "  $unit,"
done
echo ']'
# The programs of ttybridge, the most recently used first, and the one in use.
echo 'programs: ['
# shellcheck disable=SC2012 # ls sorts by time, and each_quoted takes any name
ls -t /usr/local/lib/ttybridge 2>/dev/null | each_quoted
echo ']'
program=$(readlink /usr/local/bin/ttybridge 2>/dev/null)
say program "${program##*/}"
# The state of ser2net before the first run ("enabled active"), and its configurations: those of the user, those that
# are kept to be put back, and ours.
# A file that is none, such as a pipe, would never end.
ours() { [ -f "$1" ] && grep -qs '^# Written by ttyfleet' "$1"; }
echo 'ser2net: {'
say '  before' "$(tr '\n' ' ' 2>/dev/null </var/lib/ttyfleet/ser2net.service)" ,
for which in foreign kept ours; do
  echo "  $which: ["
  for file in /etc/ser2net.conf /etc/ser2net.yaml /etc/ttyfleet-ser2net.yaml; do
    case $which in
      foreign) [ -e $file ] && ! ours $file ;;
      kept) [ -e "/var/lib/ttyfleet/${file##*/}" ] ;;
      ours) ours $file ;;
    esac && echo "    $file,"
  done
  echo '  ],'
done
echo '}'
# Units that run with older files: an earlier run was cut short before it restarted them.
stale() {
  unit=$1
  shift
  systemctl -q is-active "$unit" 2>/dev/null || return 0
  since=$(systemctl show --timestamp=us+utc --property=StateChangeTimestamp --value "$unit")
  [ -z "$(find "$@" -newermt "$since" 2>/dev/null)" ] || echo "  $unit,"
}
echo 'stale: ['
stale ttybridge.service /usr/local/bin/ttybridge /etc/ttybridge/ttybridge.toml /etc/systemd/system/ttybridge.service
# After an upgrade of Debian it runs with an older Python, whose modules may be removed. An update changes no link.
started=$(systemctl show --timestamp=us+utc --property=ExecMainStartTimestamp --value ttybridge.service 2>/dev/null)
! systemctl -q is-active ttybridge.service 2>/dev/null ||
  [ -z "$(find /usr/bin/python3 -newerct "$started" 2>/dev/null)" ] || echo '  ttybridge.service,'
dropin=/etc/systemd/system/ser2net.service.d/ttyfleet.conf
# The first file that it names is in use; another one is for the next release of Debian.
[ ! -e $dropin ] || stale ser2net.service $dropin "$(sed -n 's,^ExecStart=.* -c \(/.*\),\1,p
  s,.* file=\(/[^ ;]*\) .*,\1,p' $dropin | head -n 1)"
# The table of the firewall in the kernel, compared with what its file makes in an empty network: a flush leaves no trace.
firewall=ttyfleet-firewall.service
if [ -e /etc/systemd/system/$firewall ]; then
  wanted=$(unshare --net sh -c 'nft --file /etc/ttyfleet.nft && nft list table inet ttyfleet' 2>/dev/null)
  systemctl -q is-active $firewall && systemctl -q is-enabled $firewall &&
    [ "$(nft list table inet ttyfleet 2>&1)" = "$wanted" ] || echo "  $firewall,"
fi
# avahi-daemon, if it is to announce ports.
avahi='avahi-daemon.service'
[ -z "$(find /etc/avahi/services -name 'ttyfleet-*.service' 2>/dev/null)" ] ||
  { systemctl -q is-active $avahi && systemctl -q is-enabled $avahi; } 2>/dev/null || echo "  $avahi,"
echo ']'
# Every file of ours, also those that are left over. We give files plain names: others are not ours.
# shellcheck disable=SC2086 # names without blanks
found() { find $PLACES ! -path '*[!A-Za-z0-9._+/@:-]*' "$@" 2>/dev/null; }
echo 'files: ['
found -printf "  {path: '%p', type: '%y', mode: '0%m', owner: '%u', group: '%g'},\n" | tr -c ' -~\n' '?'
echo ']'
echo 'checksums: {'
found -type f -exec sha256sum -- {} + 2>/dev/null | sed "s/^\([0-9a-f]*\)  \(.*\)/  '\2': '\1',/"
echo '}'
echo 'targets: {'
found -type l -printf '%p\n' | while read -r link; do say "  $link" "$(readlink "$link")" ,; done
echo '}'
echo 'devices: ['
for device in $DEVICES; do [ ! -e "$device" ] || echo "  '$device',"; done
echo ']'
# USB devices that no driver has taken, as far as they may be serial adapters (classes 02 and ff).
echo 'driverless: ['
for interface in /sys/bus/usb/devices/*:*; do
  case $(cat "$interface/bInterfaceClass" 2>/dev/null) in
    02 | ff) ;;
    *) continue ;;
  esac
  device=$(readlink -f "$interface")
  device=${device%/*}
  [ -z "$(find "$device/" -mindepth 2 -maxdepth 2 -path "$device/*:*/driver")" ] || continue
  echo '  {'
  say '    path' "${device##*/}" ,
  for name in idVendor idProduct serial manufacturer product bcdDevice; do
    say "    $name" "$(cat "$device/$name" 2>/dev/null)" ,
  done
  echo '  },'
done
echo ']'
# What an interrupted run has written and not applied.
echo 'unfinished: ['
each_quoted 2>/dev/null </var/lib/ttyfleet/last-good/paths
echo ']'
echo 'services: {'
for unit in ttybridge.service ser2net.service ttyfleet-firewall.service ttyfleet-pull.timer ttyfleet-pull.service \
  avahi-daemon.service ssh.service ssh.socket; do
  printf "  '%s': {" $unit
  systemctl show --property=LoadState,ActiveState,UnitFileState $unit 2>/dev/null |
    sed -n "s/^\(LoadState\|ActiveState\|UnitFileState\)=\([a-z-]*\)$/'\1': '\2', /p" | tr -d '\n'
  echo '},'
done
echo '}'
# Accounts that $USERS names or that we have made (their comment says so): the groups, and of the settings that limit them
# those that another file of sshd has set before ours. And who has logged in, which accounts our file limits to
# consoles, and which it shuts out.
dropin=/etc/ssh/sshd_config.d/00-ttyfleet.conf
listed() { sed -n "s/^$1 //p" $dropin 2>/dev/null | tr ',' ' ' | tr '\n' ' '; }
words() { echo "$1" | tr ' ' '\n' | grep . | each_quoted; }
overridden() {
  # sshd wants to be called by its whole path.
  said=$("$(PATH=$PATH:/usr/sbin && command -v sshd)" -T -C "user=$1,host=localhost,addr=127.0.0.1" 2>/dev/null) || return
  sed -n '/^Match User/,/^$/ {s/^  \([A-Z]\)/\1/p; /^$/q}' $dropin | while read -r line; do
    printf '%s\n' "$said" | grep -qixF -- "$line" || printf '%s\n' "${line%% *}"
  done | each_quoted
}
limited=$(listed 'Match User')
echo 'people: {'
say '  login' "${SUDO_USER:-$(id -un)}" ,
echo "  limited: [$(words "$limited")],"
echo "  denied: [$(words "$(listed DenyUsers)")],"
echo '  accounts: ['
made=$(sed -n 's/^\([^:]*\):[^:]*:[^:]*:[^:]*:Serial consoles (ttyfleet)[^:]*:.*/\1/p' /etc/passwd 2>/dev/null | tr '\n' ' ')
for user in $(echo "$made $USERS" | tr ' ' '\n' | sort -u); do
  id -u "$user" >/dev/null 2>&1 || continue
  echo '  {'
  say '    name' "$user" ,
  echo "    made: $(is has "$made" "$user"),"
  say '    group' "$(id -gn "$user" 2>/dev/null)" ,
  echo "    groups: [$(id -Gnz "$user" 2>/dev/null | tr '\0' '\n' | each_quoted)],"
  echo "    overridden: [$(! has "$limited" "$user" || overridden "$user")],"
  echo '  },'
done
echo '  ]'
echo '}'
configuration=/etc/ttybridge/ttybridge.toml
echo "configuration: '$([ ! -f $configuration ] || base64 --wrap=0 $configuration)'"
# What became of the last pull, in base64.
state=/var/lib/ttyfleet/pull.json
echo "pull: '$([ ! -f $state ] || base64 --wrap=0 $state)'"
# Who listens on TCP, who is connected, and the users of our units: in a container root cannot see which process has a
# socket.
network=
[ -z "$python" ] || [ -z "$NETWORK" ] || network=$(/usr/bin/python3 -I -c "$NETWORK")
printf 'network: %s\n' "${network:-{\}}"
echo 'users: {'
for unit in ttybridge.service ser2net.service; do
  say "  $unit" "$(systemctl show --property=UID --value $unit 2>/dev/null)" ,
done
echo '}'
# What a Pi boots with, for the role uart. Texts are in base64.
boot=
for folder in /boot /boot/firmware; do
  [ ! -e $folder/config.txt ] || boot=$folder
done
text() { echo "  $1: '$([ ! -e "$2" ] || base64 --wrap=0 "$2")',"; }
echo 'boot: {'
say '  model' "$([ ! -e /proc/device-tree/model ] || tr -d '\0' </proc/device-tree/model)" ,
echo "  folder: '$boot',"
echo "  writable: $(is [ -w "$boot/" ]),"
echo "  mode: '$([ -z "$boot" ] || stat --format=0%a $boot/config.txt)',"
text config "$boot/config.txt"
text cmdline "$boot/cmdline.txt"
text kept "$boot/cmdline.txt.ttyfleet"
text running /proc/cmdline
echo "  hciuart: $(is [ -e /usr/lib/systemd/system/hciuart.service ]),"
echo '  masked: ['
find /etc/systemd/system -maxdepth 1 -lname /dev/null -printf '%f\n' | each_quoted
echo '  ],'
echo '  ours: ['
[ ! -e /var/lib/ttyfleet/masked-units ] || each_quoted </var/lib/ttyfleet/masked-units
echo '  ],'
echo "  reboot: $(is [ -e /run/ttyfleet-reboot ])"
echo '}'
