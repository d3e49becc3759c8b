# shellcheck shell=bash
# What the commands in script/ share. Sourced, never run.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
export LAB=$ROOT/.lab                                    # everything of the lab while it is up
export CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/ttyfleet    # what is worth keeping: built images
export PATH=$PATH:/usr/sbin:/sbin                        # a Debian user's own PATH lacks them
export TTYFLEET_T0=${TTYFLEET_T0:-$EPOCHSECONDS}         # scripts that call scripts share one clock

say() { printf '%4d s  %s\n' "$((EPOCHSECONDS - TTYFLEET_T0))" "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# die_with LOG WORDS...: shows the end of a log, then the words.
die_with() {
  local log=$1; shift
  [ ! -s "$log" ] || tail -n 25 -- "$log" | sed 's/^/  | /' >&2
  die "$* (the whole log: $log)"
}

as_root() {
  if [ "$EUID" = 0 ]; then "$@"; else sudo -- "$@"; fi
}

# need_root WHY: asks for the password, if any, at the start and not half-way through.
need_root() {
  [ "$EUID" != 0 ] || return 0
  if ! command -v sudo >/dev/null; then
    die "$1 needs root, and sudo is not installed: run this as root, or as root install sudo and allow it to $(id -un)"
  fi
  sudo true || die "$1 needs root, and sudo does not let $(id -un): run this as root, or as root: adduser $(id -un) sudo"
}

# need_packages COMMAND=PACKAGE...: installs a package if its command (or file) is not there.
need_packages() {
  local want missing=() log=$CACHE/install.log
  for want; do
    command -v "${want%%=*}" >/dev/null || [ -e "${want%%=*}" ] || missing+=("${want#*=}")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    die "missing here: ${missing[*]}, and there is no apt-get: install them with this system's package manager"
  fi
  need_root "installing the missing packages (apt-get install ${missing[*]})"
  say "installing ${missing[*]}"
  mkdir -p "$CACHE"
  leave_services_off "${missing[@]}"
  local apt=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300)
  # With old or no package lists the first try fails: only then is an update worth its time.
  "${apt[@]}" install --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
    { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >>"$log" 2>&1 ||
    die_with "$log" "apt-get could not install ${missing[*]}"
}

# leave_services_off PACKAGE...: the tests need some daemons as programs; their services must not start.
leave_services_off() {
  [ -d /run/systemd/system ] || return 0    # nothing would start it
  local package units
  for package; do
    case $package in
      ser2net | conserver-server | conman | haproxy) units=("$package.service") ;;
      gpsd) units=(gpsd.service gpsd.socket) ;;
      openssh-server) units=(ssh.service ssh.socket) ;;
      *) continue ;;
    esac
    say "${units[*]} stays off: undo with systemctl unmask ${units[*]}"
    as_root systemctl mask --quiet "${units[@]}"
  done
}

# ssh_identity DIR: a key pair and an empty list of known hosts.
ssh_identity() {
  mkdir -p "$1"
  [ -e "$1/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C "ttyfleet lab" -f "$1/id_ed25519"
  touch "$1/known_hosts"
}

# ssh_host NAME ADDRESS [PORT], then ssh_defaults DIR: an ssh_config for machines that accept this identity for user pi.
ssh_host() { printf 'Host %s\n  HostName %s\n  Port %s\n  HostKeyAlias %s\n' "$1" "$2" "${3:-22}" "$1"; }
ssh_defaults() {
  cat <<EOF
Host *
  User pi
  IdentityFile "$1/id_ed25519"
  IdentitiesOnly yes
  UserKnownHostsFile "$1/known_hosts"
  StrictHostKeyChecking accept-new
  LogLevel ERROR
  ServerAliveInterval 5
EOF
}

# pip_install REQUIREMENTS: only files whose hashes are written there. For a 32-bit Pi there are no such wheels: the ones
# that Raspberry Pi OS adds to pip have other hashes, so there only the versions are as written.
pip_install() {
  local pip=("$ROOT/.venv/bin/pip" install --quiet --disable-pip-version-check)
  case $(uname -m) in
    armv[67]*) "${pip[@]}" -r <(sed 's/ \\$//; /^ *--hash=/d' "$1") ;;
    *) "${pip[@]}" --require-hashes -r "$1" ;;
  esac
}

# venv REQUIREMENTS: makes .venv match a requirements file; quick if it already does.
venv() {
  local python='' try log=$CACHE/venv.log stamp=$ROOT/.venv/.done-$1
  for try in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$try" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$try; break; fi
  done
  if [ -z "$python" ]; then
    die "Python 3.11 or later is needed; here is $(python3 --version 2>/dev/null || echo none): Debian 12, Ubuntu 24.04 and later have it as python3"
  fi
  # Debian has the modules for virtual environments in a package of their own.
  "$python" -c 'import ensurepip, venv' 2>/dev/null || need_packages "no-ensurepip=$python-venv"
  local made want
  made="$ROOT $("$python" --version)"
  want=$(cat "$ROOT"/requirements*.txt | sha256sum)
  mkdir -p "$CACHE"
  (
    flock 8    # if two commands run at once, only one builds it
    # After the clone moved, or with another Python, the old one is useless.
    if [ "$(cat "$ROOT/.venv/.made" 2>/dev/null)" != "$made" ]; then
      say "making .venv"
      rm -rf "$ROOT/.venv"
      "$python" -m venv "$ROOT/.venv" >"$log" 2>&1 || die_with "$log" "could not make .venv"
      echo "$made" >"$ROOT/.venv/.made"
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
      say "installing $1 into .venv"
      pip_install "$ROOT/$1" >"$log" 2>&1 || die_with "$log" "pip could not install $1"
      echo "$want" >"$stamp"
    fi
  ) 8<"$ROOT/script/lib.sh"
}
