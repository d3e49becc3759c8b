"""conserver's console, through a conserver server that points at the port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .cable import Cable
from .programs import between_pipes, in_terminal
from .servers import ENGINES, Served, free_tcp_port, listens
from .wait import EVERY_BYTE, assert_carries, wait_until

ESCAPE = b"\x05"
TYPED = EVERY_BYTE.replace(ESCAPE, b"")

CONFIGURATION = """
access * {{ trusted 127.0.0.1; }}
console sw {{
    master 127.0.0.1;
    type host;
    host 127.0.0.1;
    port {port};
    protocol {protocol};
    rw *;
}}
"""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("protocol", ["raw", "telnet"])
def test_conserver(
    engine: str, protocol: str, serve: Callable[..., Served], cable: Cable, tmp_path: Path
) -> None:
    sw, master_port = serve(engine, protocol=protocol), str(free_tcp_port())
    configuration, passwords = tmp_path / "conserver.cf", tmp_path / "conserver.passwd"
    configuration.write_text(CONFIGURATION.format(port=sw.tcp_port, protocol=protocol))
    passwords.write_text("*any*:\n")
    master = "-M", "127.0.0.1", "-p", master_port, "-E"
    files = "-C", str(configuration), "-P", str(passwords)
    with between_pipes("conserver", *master, *files):
        wait_until(lambda: listens(int(master_port)), "conserver listens")
        with in_terminal("console", *master, "-n", "-C", "/dev/null", "sw") as client:
            client.read_until(b"for help]\r\n")
            client.wait_for_character_mode()
            assert_carries(client, cable, TYPED)
            assert_carries(cable, client)
            if engine == "bridge" and protocol == "telnet":
                client.write(ESCAPE + b"cl0")
                client.read_until(b"]")
                wait_until(lambda: sw.breaks() == 1, "a break")
                assert_carries(client, cable, TYPED)
