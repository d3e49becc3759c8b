"""Programs that speak to another kind of server: none of their bytes reaches the device."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from .cable import Cable
from .programs import between_pipes
from .servers import Served
from .wait import TIMEOUT, assert_carries, wait_until

LONG = "a" * 8000


@pytest.mark.parametrize("protocol", ["raw", "telnet"])
@pytest.mark.parametrize(
    "words",
    [
        "curl -d id http://{}/",
        "curl -d id http://{}/" + LONG,
        "curl -X PROPFIND http://{}/",
        "curl --http2-prior-knowledge http://{}/",
        "curl -k https://{}/",
        "openssl s_client -connect {}",
        "ssh -o BatchMode=yes -p {port} 127.0.0.1",
    ],
)
def test_a_stranger_is_closed(
    words: str, protocol: str, serve: Callable[..., Served], cable: Cable
) -> None:
    sw = serve("bridge", protocol=protocol)
    command = words.format(sw.address, port=sw.tcp_port).split()
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
    )
    assert ended.returncode
    wait_until(lambda: "guard: off of port sw lets it through" in sw.log, "the log says why")
    with between_pipes("nc", "127.0.0.1", str(sw.tcp_port)) as client:
        assert_carries(client, cable, b"mine")


def test_guard_off_lets_it_through(serve: Callable[..., Served], cable: Cable) -> None:
    sw = serve("bridge", guard="off")
    with between_pipes("curl", "-s", "-d", "id", f"http://{sw.address}/"):
        assert cable.read(17) == b"POST / HTTP/1.1\r\n"
