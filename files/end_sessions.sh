# shellcheck shell=sh
# Ends every session of some accounts, at once, and waits until none is left. Input: $NAMES.
# sshd's process for a session runs as the account: with it the connection ends, and with that the console.
for name in $NAMES; do
  pkill -KILL -u "$name" sshd
  loginctl terminate-user "$name" 2>/dev/null || pkill -KILL -u "$name"
  left=100
  while pgrep -u "$name" >/dev/null; do
    left=$((left - 1))
    case $left in
      # What systemd has not ended by now does not end by itself.
      50) pkill -KILL -u "$name" ;;
      0) echo "$name: a process of it does not end" >&2; exit 1 ;;
    esac
    sleep 0.1
  done
done
