"""A container of script/lab that has never seen ttyfleet, with adapters plugged in.

Such a container has no udev, and its /sys shows the adapters of the computer that it runs on. So
script/install sees recorded adapters in the place of /sys; each one's line is its own echo, and a
unit does what udev would.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recorded import Pi, arduino, ft232, pl2303

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = {"ttyUSB0": pl2303, "ttyUSB1": ft232, "ttyACM0": arduino}

CLONE = "/home/pi/ttyfleet"
MAP = f"{CLONE}/inventory/localhost/host_vars/localhost.yml"

# Names the adapters, by the vendor in a rule, whenever the rules are written.
UDEV = """
cat >/usr/local/sbin/lab-udev <<'END'
mkdir -p /dev/serial/by-name
rm -f /dev/serial/by-name/*
sed -n 's,.*idVendor}=="\\([^"]*\\)".*SYMLINK+="serial/by-name/\\([^"]*\\)".*,\\1 \\2,p' \
  /etc/udev/rules.d/60-ttyfleet.rules |
while read -r vendor name; do
  case $vendor in 067b) tty=ttyUSB0 ;; 0403) tty=ttyUSB1 ;; 2341) tty=ttyACM0 ;; esac
  ln -s "../../$tty" "/dev/serial/by-name/$name"
done
END
systemd-run --quiet --unit=lab-udev --path-property=PathChanged=/etc/udev/rules.d \
  --service-type=oneshot sh /usr/local/sbin/lab-udev
"""

# All that a program can have changed, but for the clone.
FILES = """
find /etc /usr /var/lib /boot -type f -printf '%p %T@ %s\\n' | sort
systemctl list-unit-files --no-legend | grep -v ^lab-
"""


@dataclass(frozen=True)
class Run:
    """What script/install printed, and its exit status."""

    status: int
    output: str

    def __contains__(self, text: str) -> bool:
        return text in self.output


class Machine:
    """A container, reached as a person reaches a Pi."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ssh = ["ssh", "-F", str(ROOT / ".lab" / "ssh_config")]

    def run(self, command: str, data: bytes = b"") -> str:
        """Run a shell's words as root; return what they print."""
        shell = [*self.ssh, self.name, f"sudo sh -ec '{_quoted(command)}'"]
        done = subprocess.run(shell, input=data, capture_output=True)
        assert done.returncode == 0, (command, done.stdout.decode(), done.stderr.decode())
        return done.stdout.decode()

    def plug_in(self, tty: str, folder: Path) -> None:
        """Add a recorded adapter; what its line is sent comes back. `folder` is to write in."""
        ADAPTERS[tty](Pi(folder))
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(folder / "sys", "sys")
        self.run("tar -C /run/lab-adapters --no-overwrite-dir -xf -", archive.getvalue())
        line = f"pty,raw,echo=0,link=/dev/{tty},group=dialout,mode=0660"
        self.run(f"systemd-run --quiet --unit=lab-{tty} socat {line} PIPE")

    def echo(self, port: int) -> bytes:
        """What a TCP port answers to hello."""
        config = subprocess.check_output([*self.ssh, "-G", self.name], text=True)
        address = next(
            line.split()[1] for line in config.splitlines() if line.startswith("hostname ")
        )
        with socket.create_connection((address, port), 10) as client:
            client.settimeout(10)
            client.sendall(b"hello")
            return client.recv(5, socket.MSG_WAITALL)

    def install(
        self,
        *arguments: str,
        answers: Sequence[str] = (),
        user: str = "pi",
        first: str = "true",
        environment: str = "",
    ) -> Run:
        """Run script/install as a user, at a terminal where there are answers to type.

        `first` is done as root before, in the same mount namespace.
        """
        home = "/root" if user == "root" else f"/home/{user}"
        command = f"""
            mount --bind /run/lab-adapters/sys /sys
            {first}
            cd {home}
            exec setpriv --reuid={user} --regid={user} --init-groups \\
              env HOME={home} {environment} {CLONE}/script/install {" ".join(arguments)}
        """
        left = list(answers)
        output = b""
        with subprocess.Popen(
            [*self.ssh, "-tt" if answers else "-T", self.name]
            + [f"sudo unshare --mount sh -ec '{_quoted(command)}'"],
            stdin=subprocess.PIPE if answers else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout
            while chunk := os.read(process.stdout.fileno(), 4096):
                output += chunk
                if output.endswith(b"[y/N] ") and left and process.stdin:
                    process.stdin.write(f"{left.pop(0)}\n".encode())
                    process.stdin.flush()
        assert not left, (left, output.decode())
        return Run(process.returncode, output.decode().replace("\r\n", "\n"))


def _quoted(command: str) -> str:
    return command.replace("'", "'\\''")
