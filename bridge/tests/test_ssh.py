"""`ttybridge ssh`: what an account that gets nothing else may ask for, and what it may not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process import environment
from ttybridge.ssh import SshError, Wishes, wishes

ONLY = "this account gets serial consoles only: write ssh -t USER@HOST [PORT]"


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("", Wishes()),
        ("router", Wishes("router")),
        ("  router  --watch ", Wishes("router", watch=True)),
        ("--take router", Wishes("router", take=True)),
        ("router --replay 4096", Wishes("router", replay=4096)),
        ("--replay 0 --watch", Wishes(watch=True, replay=0)),
        ("rack-1.b_2", Wishes("rack-1.b_2")),
    ],
)
def test_what_may_be_asked_for(command: str, wanted: Wishes) -> None:
    assert wishes(command) == wanted


@pytest.mark.parametrize(
    "command",
    [
        "router; id",
        "router;id",
        "router && id",
        "router | sh",
        "$(id)",
        "`id`",
        "router\nid",
        "router id",
        "sh -c id",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "router/../ups",
        ".hidden",
        "-oProxyCommand=id",
        "--version",
        "--help",
        "-h",
        "--timeout 5",
        "--repl 5",
        "--watch=1",
        "--watch --take",
        "--watch --watch",
        "--replay",
        "--replay -1",
        "--replay 1 --replay 2",
        "--replay 99999999999",
        "/usr/lib/openssh/sftp-server",
        "scp -t /tmp",
        "scp -f /etc/passwd",
        "rsync --server .",
        "ro\x00uter",
        "r\u00f6uter",
        "x" * 65,
    ],
)
def test_nothing_else_may_be_asked_for(command: str) -> None:
    with pytest.raises(SshError, match=r"write ssh -t USER@HOST|whole number"):
        wishes(command)


@given(st.text())
def test_any_words_are_a_console_or_refused(command: str) -> None:
    try:
        port, said = wishes(command).port, ""
    except SshError as error:
        port, said = None, str(error)
    assert said.isprintable()
    assert port is None or port in command.split()


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`ttybridge ssh` as sshd runs it, without a terminal."""
    from process import command as program

    return subprocess.run(
        program("ssh"),
        env=environment(folder, SSH_ORIGINAL_COMMAND=command),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_what_is_refused_is_said(tmp_path: Path) -> None:
    done = run("router; id", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"router;: {ONLY}")


def test_a_console_is_asked_for(tmp_path: Path) -> None:
    done = run("router --watch", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"no daemon answers at {tmp_path}/control.sock")
