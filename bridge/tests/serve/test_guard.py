"""Clients that speak to another kind of server: what is recognized, and what must not be."""

from __future__ import annotations

import asyncio
import http.client
import ssl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import TIMEOUT, Adapter, MakePort, Serve, tcp_port
from ttybridge.model.ports import Port
from ttybridge.protocol.guard import stranger


def client_hello(name: str | None = "pi-rack1") -> bytes:
    """What a TLS client sends first."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


HELLO = client_hello()

POST = (
    b"POST / HTTP/1.1\r\nHost: pi-rack1:9999\r\nContent-Length: 3\r\n"
    b"Content-Type: text/plain\r\n\r\nid\n"
)

STRANGERS = {
    "HTTP": [
        POST,
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\n",
        b"\r\nGET / HTTP/1.1\r\n",
        b"HEAD /a?b=%20c HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"CONNECT pi-rack1:9999 HTTP/1.1\r\n",
        b"GET http://pi-rack1:9999/ HTTP/1.1\r\n",
        b"M-SEARCH * HTTP/1.1\r\n",
        b"patch /\xc3\xa9 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /" + 5000 * b"a" + b" HTTP/1.1\r\n\r\nid\n",
        # The target is so long that the line does not end in the first read.
        b"POST /" + 1442 * b"a",
        b"POST /" + 70_000 * b"a",
        b"GET http://pi-rack1/" + 516 * b"a",
        b"GET /" + 1442 * b"a" + b" HTT",
        b"GET /" + 1442 * b"a" + b" HTTP/1.1\r",
    ],
    "TLS": [HELLO, client_hello(None), HELLO[:11], HELLO[:100], b"\x16\x03\x03" + HELLO[3:]],
    "SSH": [b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", b"SSH-1.99-x\n", b"SSH-2.0-PuTTY"],
}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        pytest.param(kind, data, id=f"{kind}-{number}")
        for kind, all_ in STRANGERS.items()
        for number, data in enumerate(all_)
    ],
)
def test_a_client_of_another_kind_of_server_is_recognized(kind: str, data: bytes) -> None:
    assert kind in (stranger(data) or "")


def crc(frame: bytes) -> bytes:
    """Modbus RTU's check sum."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value.to_bytes(2, "little")


def modbus(frame: bytes) -> bytes:
    """A frame of Modbus RTU."""
    return frame + crc(frame)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r",
        b"G",
        b"GET",
        b"GET\r\n",
        b"get /x\r",
        b"GET /x\r\n",
        b"GET / HTTP\r\n",
        b"GET / HTTP/1.1",
        b"GET  / HTTP/1.1\r\n",
        b"echo GET / HTTP/1.1\r\n",
        b"PUT FREQ 10\r",
        b"POST\r",
        b"HTTP/1.1 200 OK\r\n",
        b"get /" + 300 * b"a" + b"\r",
        b"cat /etc/passwd " + 300 * b"a",
        b"GET /" + 200 * b"a",
        300 * b"a" + b" /",
        b"SSH",
        b"SSH\r",
        b"ssh admin@192.0.2.7\r\n",
        b"SSH-2.0\r\n",
        b"SSH -2.0-x\r",
        b"\x16",
        b"\x16\x03\x01",
        modbus(b"\x16\x03\x01\x02\x00\x01"),
        2 * modbus(b"\x16\x03\x01\x02\x00\x01"),
        modbus(b"\x16\x03\x01\x02\x00\x01") + modbus(b"\x16\x03\x03\x02\x00\x01"),
        # A ClientHello but for one byte: its two lengths disagree, or a version is unknown.
        HELLO[:8] + bytes([HELLO[8] ^ 1]) + HELLO[9:],
        HELLO[:9] + b"\x02" + HELLO[10:],
        HELLO[:10] + b"\x09" + HELLO[11:],
        HELLO[:10],
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
    ],
)
def test_what_is_sent_to_serial_devices_passes(data: bytes) -> None:
    assert stranger(data) is None


registers = st.tuples(st.sampled_from([1, 3]), st.integers(0, 255), st.just(0), st.just(1))


@given(st.lists(registers, min_size=1, max_size=4))
@example([(1, 2, 0, 1), (1, 2, 0, 1)])
def test_every_modbus_request_of_unit_22_passes(addresses: list[tuple[int, ...]]) -> None:
    assert stranger(b"".join(modbus(bytes((0x16, 3, *each))) for each in addresses)) is None


@given(st.binary(max_size=20), st.integers(0, 247), st.integers(1, 127))
def test_every_modbus_frame_passes(data: bytes, unit: int, function: int) -> None:
    assert stranger(2 * modbus(bytes((unit, function)) + data)) is None


words = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80)


@given(words.filter(lambda line: "HTTP/" not in line and not line.startswith("SSH-")))
def test_every_line_that_somebody_types_passes(line: str) -> None:
    assert stranger(line.encode() + b"\r") is None


@given(st.binary(max_size=600).filter(lambda data: not data.startswith((b"SSH-", b"\x16"))))
def test_binary_data_pass(data: bytes) -> None:
    assert stranger(b"\x02" + data) is None


def refused(port: Port, seems: str, log: str) -> bool:
    """Whether the log says why a client of a port was closed, and what lets it in."""
    said = f"refused: it begins like {seems}, which is not for a serial device: "
    return said + f"guard: off of port {port.name} lets it through" in log


@pytest.mark.parametrize("protocol", ["raw", "telnet", "rfc2217"])
@pytest.mark.parametrize(
    ("data", "seems"),
    [(POST, "an HTTP request"), (HELLO, "a TLS handshake"), (b"SSH-2.0-x\r\n", "an SSH client")],
)
async def test_a_stranger_is_closed_before_a_byte_reaches_the_device(
    data: bytes,
    seems: str,
    protocol: str,
    adapter: Adapter,
    make_port: MakePort,
    caplog: pytest.LogCaptureFixture,
    serve: Serve,
) -> None:
    port = make_port(protocol=protocol)
    bench = await serve(port)
    other = await bench.connect(port)
    await other.send(data)
    await other.rest()
    assert refused(port, seems, caplog.text)
    assert "client 127.0.0.1:" in caplog.text
    assert bench.status()["counters"]["refused_clients"] == 1
    assert not bench.status()["clients"]
    client = await bench.connect(port)
    await client.send(b"mine")
    assert await adapter.receive(4) == b"mine"


async def test_only_the_first_read_is_judged(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port()
    bench = await serve(port)
    client = await bench.connect(port)
    await client.send(b"AT+CIPSEND\r")
    assert await adapter.receive(11) == b"AT+CIPSEND\r"
    await client.send(POST)
    assert await adapter.receive(len(POST)) == POST


async def test_guard_off_lets_all_through(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(guard="off")
    bench = await serve(port)
    client = await bench.connect(port)
    await client.send(POST)
    assert await adapter.receive(len(POST)) == POST


async def test_a_post_does_not_replace_the_client_of_a_port(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    def post(to: Port) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", tcp_port(to), timeout=TIMEOUT)
        connection.request("POST", "/", "id\n")
        with pytest.raises((http.client.HTTPException, OSError)):
            connection.getresponse()
        connection.close()

    port = make_port(sharing="replace")
    bench = await serve(port)
    client = await bench.connect(port)
    await asyncio.to_thread(post, port)
    await bench.has_refused(1)
    await client.send(b"mine")
    assert await adapter.receive(4) == b"mine"
    assert len(bench.status()["clients"]) == 1
