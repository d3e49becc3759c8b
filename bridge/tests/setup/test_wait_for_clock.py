"""How a run waits for the clock of a host, which a time server sets late or never."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "files" / "wait_for_clock.sh"
DAY = 86400


class Host:
    """A host whose clock is off by some seconds: the folder with its commands."""

    def __init__(self, folder: Path, off: int) -> None:
        self.folder = folder
        (folder / "off").write_text(str(off))
        date = shutil.which("date")
        self._command(
            "date",
            f'if [ "$*" = +%s ]; then echo $(($({date} +%s) + $(cat {folder}/off)));'
            f' else {date} "$@"; fi',
        )
        self.is_synchronised("no")
        self.sleeps("sleep 0.1")

    def _command(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def is_synchronised(self, answer: str) -> None:
        self._command("timedatectl", f"echo {answer}")

    def sleeps(self, what: str) -> None:
        """What happens while the script sleeps."""
        script = f"echo >>{self.folder}/slept; cd {self.folder}; PATH=/usr/bin:/bin; {what}"
        self._command("sleep", script)

    def wait(self, patience: int) -> tuple[int, str, int]:
        """The script's status, what it says, and how often it has slept."""
        done = subprocess.run(
            ["sh", "-c", SCRIPT.read_text()],
            env={
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "NOW": str(int(time.time())),
                "CLOCK_LIMIT": "300",
                "PATIENCE": str(patience),
            },
            capture_output=True,
            text=True,
        )
        slept = self.folder / "slept"
        times = len(slept.read_text().splitlines()) if slept.exists() else 0
        return done.returncode, done.stdout + done.stderr, times


@pytest.mark.parametrize("off", [0, 290, -290])
def test_a_right_clock_is_not_waited_for(tmp_path: Path, off: int) -> None:
    assert Host(tmp_path, off).wait(100) == (0, "", 0)


@pytest.mark.parametrize("off", [-300 * DAY, 3600])
def test_a_time_server_that_answers_late(tmp_path: Path, off: int) -> None:
    host = Host(tmp_path, off)
    host.sleeps("[ $(wc -l <slept) -lt 3 ] || echo 0 >off")
    assert host.wait(100) == (0, "", 3)


def test_no_time_server(tmp_path: Path) -> None:
    status, said, slept = Host(tmp_path, -300 * DAY).wait(1)
    assert status == 1
    assert slept > 0
    both = r"its clock says (....)-\S+ \S+ UTC, and here it is (....)-\S+ \S+ UTC"
    words = r"no time server \(NTP\) has set it, also after 1 s: see what timedatectl"
    assert (
        found := re.match(rf"{both}: {words} says there, or set it: sudo date -u -s '.+'\n$", said)
    )
    then, now = time.time() - 300 * DAY, time.time()
    assert found.groups() == tuple(time.strftime("%Y", time.gmtime(at)) for at in (then, now))


def test_the_clock_that_it_is_compared_with_is_the_wrong_one(tmp_path: Path) -> None:
    host = Host(tmp_path, 300 * DAY)
    host.is_synchronised("yes")
    status, said, slept = host.wait(100)
    assert (status, slept) == (1, 0)
    assert said.endswith("a time server has set it, so see whether the clock here is right\n")
