"""`pack` of ser2net: what a device says without a pause reaches a client in one piece."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from ttybridge.model.check import parse_portmap

from .rendered import FORMS, laid_line, rendered, running
from .servers import free_tcp_port
from .wait import TIMEOUT

ANSWER = bytes(range(64, 64 + 37))
LUMPS = [ANSWER[at : at + 8] for at in range(0, len(ANSWER), 8)]


def pieces(form: str, folder: Path, pack: Any) -> list[bytes]:
    """The answer as a client gets it.

    The line is so slow that no pause ends while a busy machine hesitates.
    """
    number = free_tcp_port()
    with laid_line() as line:
        device = folder / "tty"
        device.symlink_to(line.path)
        keys = {"device": str(device), "engine": "ser2net", "baudrate": 50, "pack": pack}
        entry = {"name": "sw", "listen": f"127.0.0.1:{number}", **keys}
        text = rendered(parse_portmap([entry]), form)
        with (
            running(text, folder, [number]),
            socket.create_connection(("127.0.0.1", number), TIMEOUT) as client,
        ):
            client.sendall(b"question")
            assert line.read(8) == b"question"
            got: list[bytes] = []
            for lump in LUMPS:
                os.write(line.far, lump)
                if pack == "off":
                    got.append(client.recv(100))
                time.sleep(0.01)
            while sum(map(len, got)) < len(ANSWER):
                got.append(client.recv(100))
            return got


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_comes_as_a_whole_once_the_line_pauses(form: str, tmp_path: Path) -> None:
    assert pieces(form, tmp_path, {"idle": 1}) == [ANSWER]


@pytest.mark.parametrize("form", FORMS)
def test_a_piece_ends_at_its_largest_size(form: str, tmp_path: Path) -> None:
    # The pause would take 203 seconds.
    assert pieces(form, tmp_path, {"idle": 1000, "max": len(ANSWER)}) == [ANSWER]


@pytest.mark.parametrize("form", FORMS)
def test_without_pack_each_lump_comes_at_once(form: str, tmp_path: Path) -> None:
    assert pieces(form, tmp_path, "off") == LUMPS
