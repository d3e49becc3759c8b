"""The process: signals, systemd, control socket, metrics."""
