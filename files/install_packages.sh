# shellcheck shell=sh
# Installs packages, and notes them for remove.yml. Input: $PACKAGES, their names; $PATIENCE, how many seconds it waits
# for apt's locks; $NOTES, the folder for the note. If it fails, it prints why, a line each, the reason first.
# Not Ansible's apt module: that of ansible-core 2.18 does not wait for a lock, and its errors do not begin with the reason.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

mkdir -p "$NOTES" && touch "$NOTES/packages" || exit
for package in $PACKAGES; do
  # One that somebody has removed since is there already.
  grep -qxF "$package" "$NOTES/packages" || echo "$package" >>"$NOTES/packages"
done

said=$(mktemp) || exit
trap 'rm "$said"' EXIT
end=$(($(date +%s) + PATIENCE))
reasons=
# Whether another program, such as the daily upgrade, has one of the three locks.
locked() { grep -q 'held by process\|another process\|Resource temporarily unavailable' "$said"; }
# Runs apt-get, until nobody else has a lock.
patiently() {
  until apt-get -q "$@" >"$said" 2>&1 </dev/null; do
    if ! locked || [ "$(date +%s)" -ge "$end" ]; then break; fi
    sleep 2
  done
  reasons="$reasons
$(grep '^[EW]: \|^dpkg: error' "$said")"
}
all_installed() {
  for package in $PACKAGES; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || return
  done
}

# A source that fails need not be the one that has the packages. So what counts is whether they are installed.
patiently update
# shellcheck disable=SC2086 # the names are words
patiently -y --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install $PACKAGES
all_installed && exit

# What follows from another failure says little.
result='Unable to locate\|no installation candidate\|Some index files\|Sub-process'
{
  echo "$reasons" | grep -v "$result" | grep -v '^W:'
  echo "$reasons" | grep -v "$result" | grep '^W:'
  echo "$reasons" | grep "$result"
} | grep . | awk '!seen[$0]++' | head -n 6
exit 1
