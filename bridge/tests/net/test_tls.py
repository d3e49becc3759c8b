"""TLS: who gets in, what goes through, and certificates that change while clients are connected.

The certificates are made by the `openssl` command, with keys that are of use to nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import (
    TIMEOUT,
    Adapter,
    MakePort,
    Serve,
    TcpClient,
    free_tcp_port,
    on_each_loop,
    until,
)
from process import Daemon, StartDaemon, entry, tcp_port
from ttybridge.model.people import called
from ttybridge.model.ports import Tls
from ttybridge.net.tls import Certificate, CertificateError, names_in

MIB = 1024 * 1024


def openssl(folder: Path, *words: str) -> None:
    """Run `openssl WORDS` in a folder."""
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def make_certificate(
    folder: Path, name: str, signer: str = "", names: str = "IP:127.0.0.1"
) -> None:
    """Make NAME.pem and NAME.key, signed by itself or by another, with alternative names."""
    signed_by = ["-CA", f"{signer}.pem", "-CAkey", f"{signer}.key"] if signer else []
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
    openssl(folder, "req", "-x509", "-days", "2", *key, *files, *subject, *signed_by)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificates of two servers, two CAs, and a client of each CA."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "newer", "ca", "stranger-ca"):
        make_certificate(folder, name)
    make_certificate(folder, "client", signer="ca")
    make_certificate(folder, "stranger", signer="stranger-ca")
    return folder


class Files:
    """What a port's tls points to; put there by name of a certificate."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.certificate, self.key = folder / "tls.pem", folder / "tls.key"
        self.made = made
        self.put("server")

    def put(self, name: str) -> None:
        """Replace certificate and key, each as a whole."""
        for path, suffix in ((self.certificate, "pem"), (self.key, "key")):
            new = path.with_suffix(".new")
            new.write_bytes((self.made / f"{name}.{suffix}").read_bytes())
            if path.is_dir():
                path.rmdir()
            new.rename(path)

    @property
    def keys(self) -> dict[str, str]:
        """The keys of an entry."""
        return {"tls.certificate": str(self.certificate), "tls.key": str(self.key)}

    def client(self, server: str = "server", own: str = "") -> ssl.SSLContext:
        """A client that trusts one server, with a certificate of its own or without."""
        context = ssl.create_default_context(cafile=str(self.made / f"{server}.pem"))
        if own:
            context.load_cert_chain(self.made / f"{own}.pem", self.made / f"{own}.key")
        return context


@pytest.fixture
def files(tmp_path: Path, made: Path) -> Files:
    """Certificate and key of a port."""
    return Files(tmp_path, made)


async def fails(process: Daemon, to: dict[str, Any], context: ssl.SSLContext) -> bool:
    """Whether a client is turned away: in TLS 1.3 it learns so only when it reads."""
    with contextlib.suppress(OSError):
        client = await process.open(to, ssl=context)
        return await client.is_closed()
    return True


async def works(
    process: Daemon, adapter: Adapter, to: dict[str, Any], context: ssl.SSLContext
) -> None:
    """See a byte go each way, and the client leave."""
    client = await process.connect(to, ssl=context)
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"
    client.write(b"y")
    assert await adapter.receive(1) == b"y"
    client.close()
    await process.has_clients(0)


@on_each_loop
async def test_8_mib_pass_both_ways_at_once(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys)
    down, up = os.urandom(8 * MIB), os.urandom(8 * MIB)
    process = await daemon(sw)
    client = await process.connect(sw, ssl=files.client())
    client.write(up)
    sending = asyncio.create_task(adapter.send(down))
    receiving = asyncio.create_task(adapter.receive(len(up)))
    assert await client.receive(len(down)) == down
    assert await receiving == up
    await sending


@on_each_loop
async def test_what_is_sent_before_closing_reaches_the_device(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    """TLS has no half-close in asyncio: a close is a departure, after which 64 KiB still go out."""
    sw, data = entry(device=str(adapter.path), **files.keys), os.urandom(60_000)
    process = await daemon(sw)
    client = await process.open(sw, ssl=files.client())
    client.write(data)
    client.close()
    assert await adapter.receive(len(data)) == data
    await process.has_clients(0)


async def test_a_client_that_never_reads_is_closed_and_the_other_loses_nothing(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys, sharing="shared")
    data = os.urandom(16 * MIB)
    process = await daemon(sw)
    never = files.client().wrap_socket(process.socket_to(sw), server_hostname="127.0.0.1")
    await process.has_clients(1)
    client = await process.connect(sw, ssl=files.client())
    before = process.memory()
    sending = asyncio.create_task(adapter.send(data))
    assert await client.receive(len(data)) == data
    await sending
    assert (await process.port())["counters"]["closed_slow_clients"] == 1
    assert process.memory() - before < 16 * 1024
    never.close()


@on_each_loop
async def test_telnet_over_tls(adapter: Adapter, files: Files, daemon: StartDaemon) -> None:
    banner = "this is {name}"
    sw = entry(device=str(adapter.path), **files.keys, protocol="telnet", banner=banner)
    process = await daemon(sw)
    client = await process.connect(sw, ssl=files.client())
    assert await client.hear("this is sw\r\n")
    client.write(b"\xff\xfd\x03da\xff\xff\xff\xf6")
    assert await adapter.receive(3) == b"da\xff"
    await client.hear("[ttybridge: sw: here]")


@on_each_loop
async def test_a_refused_client_is_told_in_words(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys)
    process = await daemon(sw)
    holder = await process.connect(sw, ssl=files.client())
    refused = await process.open(sw, ssl=files.client())
    with contextlib.suppress(ConnectionError):
        refused.write(b"lost in the crossing")
    words = (await refused.rest()).decode()
    assert words.startswith(f"ttybridge: port sw is in use by {holder.name}")


@on_each_loop
async def test_only_clients_with_a_certificate_of_the_ca_get_in(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    ca = str(files.made / "ca.pem")
    sw = entry(device=str(adapter.path), **files.keys, **{"tls.client_ca": ca})
    process = await daemon(sw)
    for own in ("", "stranger"):
        assert await fails(process, sw, files.client(own=own))
        await process.has_clients(0)
    await process.has_refused(2)
    assert "sw: connection refused: TLS: " in process.log
    await works(process, adapter, sw, files.client(own="client"))


@on_each_loop
async def test_a_client_is_called_by_the_name_in_its_certificate(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    ca = str(files.made / "ca.pem")
    sw = entry(device=str(adapter.path), **files.keys, **{"tls.client_ca": ca})
    process = await daemon(sw)
    holder = await process.connect(sw, ssl=files.client(own="client"))
    (client,), name = (await process.port())["clients"], holder.name
    assert client["address"] == name
    assert client["names"] == ["client", "127.0.0.1"]
    assert f"sw: client client at {name} connected" in process.log
    refused = await process.open(sw, ssl=files.client(own="client"))
    words = (await refused.rest()).decode()
    assert words.startswith(f"ttybridge: port sw is in use by client at {name} (for ")
    request = {"command": "kick", "port": "sw", "client": "client"}
    said = json.loads(await process.say(json.dumps(request).encode()))
    assert said["kicked"] == [f"client at {name}"]
    await holder.rest()


@on_each_loop
async def test_only_the_names_in_allow_names_come_in(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    make_certificate(files.made, "jane", signer="ca", names="email:jane@example.org")
    mutual = {**files.keys, "tls.client_ca": str(files.made / "ca.pem")}
    sw = entry(device=str(adapter.path), **mutual, allow_names=["jane@example.org"])
    process = await daemon(sw)
    other = await process.open(sw, ssl=files.client(own="client"))
    said = (await other.rest()).decode()
    assert said.startswith("ttybridge: client at 127.0.0.1:")
    assert said.endswith("may not use port sw: its certificate is not in allow_names\r\n")
    await process.has_refused(1)
    jane = await process.connect(sw, ssl=files.client(own="jane"))
    process.configure({**sw, "allow_names": ["jane"]})  # her other name
    process.signal(signal.SIGHUP)
    await process.logs("reloaded: 1 ports")
    await adapter.send(b"x")
    assert await jane.receive(1) == b"x"
    process.configure({**sw, "allow_names": ["client"]})
    process.signal(signal.SIGHUP)
    await jane.rest()
    await works(process, adapter, sw, files.client(own="client"))


class Authority:
    """A CA with a revocation list, made by `openssl ca`."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder, self.made = folder, made
        (folder / "index").touch()
        (folder / "ca.conf").write_text(
            "[ca]\ndefault_ca = ca\n[ca_ca]\n[ca]\ndatabase = index\ndefault_md = sha256\n"
            f"certificate = {made}/ca.pem\nprivate_key = {made}/ca.key\ndefault_crl_days = 2\n"
        )

    def revoke(self, name: str) -> None:
        """Revoke a certificate; the next list has it."""
        openssl(self.folder, "ca", "-config", "ca.conf", "-revoke", str(self.made / f"{name}.pem"))

    def put(self, *words: str) -> str:
        """Write the CA's certificate with its present list, and return the path."""
        openssl(self.folder, "ca", "-config", "ca.conf", "-gencrl", "-out", "list.pem", *words)
        new, path = self.folder / "new.pem", self.folder / "with-list.pem"
        parts = (self.made / "ca.pem", self.folder / "list.pem")
        new.write_text("".join(part.read_text() for part in parts))
        new.rename(path)
        return str(path)


async def test_a_revoked_certificate_lets_nobody_in(
    adapter: Adapter, files: Files, daemon: StartDaemon, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, files.made)
    make_certificate(files.made, "thief", signer="ca")
    sw = entry(device=str(adapter.path), **files.keys, **{"tls.client_ca": authority.put()})
    process = await daemon(sw)
    await works(process, adapter, sw, files.client(own="thief"))
    authority.revoke("thief")
    authority.put()
    assert await fails(process, sw, files.client(own="thief"))
    await process.logs("certificate revoked")
    await works(process, adapter, sw, files.client(own="client"))


async def test_an_expired_revocation_list_is_named_and_lets_nobody_in(
    adapter: Adapter, files: Files, daemon: StartDaemon, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, files.made)
    past = ("-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z")
    sw = entry(device=str(adapter.path), **files.keys, **{"tls.client_ca": authority.put(*past)})
    process = await daemon(sw)
    assert await fails(process, sw, files.client(own="client"))
    await process.logs("the revocation list (CRL) beside the CA has expired: put a new one")
    authority.put()
    await works(process, adapter, sw, files.client(own="client"))


async def test_a_ca_without_its_list_beside_one_with_a_list_lets_nobody_in(
    adapter: Adapter, files: Files, daemon: StartDaemon, tmp_path: Path
) -> None:
    path = Path(Authority(tmp_path, files.made).put())
    path.write_text(path.read_text() + (files.made / "stranger-ca.pem").read_text())
    sw = entry(device=str(adapter.path), **files.keys, **{"tls.client_ca": str(path)})
    process = await daemon(sw)
    assert await fails(process, sw, files.client(own="stranger"))
    await process.logs("holds no revocation list (CRL) of the CA of this certificate: add it")
    await works(process, adapter, sw, files.client(own="client"))


class Collector:
    """A TLS listener elsewhere, to which ports connect."""

    def __init__(self, files: Files, client_ca: str = "") -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files.certificate, files.key)
        if client_ca:
            self.context.load_verify_locations(files.made / f"{client_ca}.pem")
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.place = f"127.0.0.1:{free_tcp_port()}"
        self.came: asyncio.Queue[TcpClient] = asyncio.Queue()
        self.server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Wait for ports."""

        def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.came.put_nowait(TcpClient(reader, writer))

        host, number = self.place.split(":")
        self.server = await asyncio.start_server(arrived, host, int(number), ssl=self.context)

    def close(self) -> None:
        """Wait no more."""
        if self.server:
            self.server.close()

    async def carries(self, adapter: Adapter) -> TcpClient:
        """Wait for a port, and see a byte go each way."""
        client = await asyncio.wait_for(self.came.get(), TIMEOUT)
        await adapter.send(b"x")
        assert await client.receive(1) == b"x"
        client.write(b"y")
        assert await adapter.receive(1) == b"y"
        return client


Collect = Callable[..., Awaitable[Collector]]


@pytest.fixture
async def collect(files: Files) -> AsyncIterator[Collect]:
    """Make a listener elsewhere; it is closed in the end."""
    made: list[Collector] = []

    async def make(client_ca: str = "") -> Collector:
        made.append(Collector(files, client_ca))
        await made[-1].listen()
        return made[-1]

    yield make
    for one in made:
        one.close()


def dials(adapter: Adapter, place: str, **tls: Path | str) -> dict[str, Any]:
    """An entry that connects to a place with TLS."""
    keys = {name: str(value) for name, value in tls.items()}
    return {"name": "sw", "device": str(adapter.path), "connect": {"at": place, "tls": keys}}


@on_each_loop
async def test_a_port_dials_with_tls_and_its_own_certificate(
    adapter: Adapter, files: Files, collect: Collect, daemon: StartDaemon
) -> None:
    collector = await collect(client_ca="ca")
    own = {"certificate": files.made / "client.pem", "key": files.made / "client.key"}
    sw = dials(adapter, collector.place, ca=files.made / "server.pem", **own)
    process = await daemon(sw)
    client = await collector.carries(adapter)
    (peer,) = (await process.port())["clients"]
    assert peer["names"] == ["server", "127.0.0.1"]
    client.close()
    await collector.carries(adapter)  # it dials again


@on_each_loop
@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"ca": "newer.pem"}, "certificate verify failed"),
        ({"ca": "server.pem", "server_name": "elsewhere"}, "Hostname mismatch"),
    ],
)
async def test_a_port_that_dials_tells_nothing_to_another_server(
    tls: dict[str, str],
    words: str,
    adapter: Adapter,
    files: Files,
    collect: Collect,
    daemon: StartDaemon,
) -> None:
    collector = await collect()
    where: dict[str, Path | str] = {**tls, "ca": files.made / tls["ca"]}
    process = await daemon(dials(adapter, collector.place, **where))
    refused = f"cannot connect to {collector.place}: TLS: "
    await process.until(lambda port: refused in (port["listen_problem"] or ""), "it is refused")
    assert words in (await process.port())["listen_problem"]
    assert (await process.port())["clients"] == []


@on_each_loop
async def test_a_stop_while_a_server_hangs_in_the_handshake(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    with socket.create_server(("127.0.0.1", free_tcp_port())) as listener:
        place = "{}:{}".format(*listener.getsockname())
        process = await daemon(dials(adapter, place, ca=files.made / "server.pem"))
        sock, _ = await asyncio.to_thread(listener.accept)
        assert await process.end() == 0
        sock.close()


async def test_a_ca_that_is_not_there_yet_is_waited_for(
    adapter: Adapter, files: Files, collect: Collect, daemon: StartDaemon, tmp_path: Path
) -> None:
    collector, ca = await collect(), tmp_path / "ca.pem"
    process = await daemon(dials(adapter, collector.place, ca=ca))
    words = f"connect.tls.ca: {ca}: No such file or directory"
    await process.until(lambda port: words in (port["listen_problem"] or ""), "it is named")
    ca.write_bytes((files.made / "server.pem").read_bytes())
    await collector.carries(adapter)


@on_each_loop
@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\r",
        b"\x16",
        b"\x16\x03\x01\x02\x00" + bytes(100),
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x40\x00" + bytes(20_000),
    ],
)
async def test_a_plain_client_on_a_port_with_tls_harms_nothing(
    junk: bytes, adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys)
    process = await daemon(sw)
    with process.socket_to(sw) as plain:
        plain.sendall(junk)
        plain.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert b"ttybridge" not in await asyncio.to_thread(plain.recv, 1000)
    await process.has_refused(1)
    await works(process, adapter, sw, files.client())


@on_each_loop
async def test_clients_that_hang_in_the_handshake_are_few_and_hold_up_nobody(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys)
    plain = entry(name="plain", device="/nonexistent/tty")
    process = await daemon(sw, plain)
    before = process.descriptors()
    hanging = [process.socket_to(sw) for _ in range(40)]
    await works(process, adapter, sw, files.client())
    hanging += [process.socket_to(sw) for _ in range(100)]
    (await process.connect(plain)).close()
    assert process.descriptors() < before + 80
    for client in hanging:
        client.close()
    await until(lambda: process.descriptors() <= before + 2, "its descriptors are as few as before")
    await works(process, adapter, sw, files.client())


class Attacker:
    """Somebody who keeps a hundred connections open that never finish their handshake."""

    def __init__(self, number: int, address: str, says: bytes) -> None:
        self._place = ("127.0.0.1", number)
        self._address, self._says = address, says
        self._open: list[socket.socket] = []
        self.opened = 0
        """How many connections it has opened, also in place of those that were closed."""

    async def attack(self) -> None:
        """Open four in each turn of the event loop, until cancelled.

        A client of the same address says hello some turns after it has connected: before the 32nd
        of these, however busy the machine is.
        """
        while True:
            self._open = [each for each in self._open if not _has_ended(each)]
            for _ in range(min(4, 100 - len(self._open))):
                new = socket.create_connection(self._place, TIMEOUT, (self._address, 0))
                new.sendall(self._says)
                new.setblocking(False)
                self._open.append(new)
                self.opened += 1
            await asyncio.sleep(0)

    def close(self) -> None:
        for each in self._open:
            each.close()


def _has_ended(client: socket.socket) -> bool:
    try:
        ended = not client.recv(1000)
    except BlockingIOError:
        return False
    except OSError:
        ended = True
    if ended:
        client.close()
    return ended


@on_each_loop
@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.2", b""),
        ("127.0.0.2", b"\x16\x03\x01\x02\x00\x01"),
        ("127.0.0.1", b""),
        ("127.0.0.1", b"\x16\x03\x01\x02\x00\x01"),
    ],
)
async def test_who_hangs_in_the_handshake_keeps_nobody_out(
    address: str, says: bytes, adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys)
    process = await daemon(sw)
    attacker = Attacker(tcp_port(sw), address, says)
    attacking = asyncio.create_task(attacker.attack())
    await until(lambda: attacker.opened > 1000, "the attacker is cut off over and over")
    for _ in range(5):  # each at its first try
        await works(process, adapter, sw, files.client())
    assert process.descriptors() < 150
    assert not attacking.done()
    attacking.cancel()
    attacker.close()
    assert "TLS: dropped for a newcomer" in process.log


@on_each_loop
async def test_a_handshake_that_comes_in_small_pieces_succeeds(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    def shake_hands(sock: socket.socket) -> ssl.SSLObject:
        """Send a byte at a time at first, each in a segment of its own."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = files.client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                hello = outgoing.read()
                for place in range(10):
                    sock.sendall(hello[place : place + 1])
                    time.sleep(0.005)
                sock.sendall(hello[10:])
                incoming.write(sock.recv(16384))
                continue
            sock.sendall(outgoing.read())
            return tls

    sw = entry(device=str(adapter.path), **files.keys)
    process = await daemon(sw)
    sock = process.socket_to(sw)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await asyncio.to_thread(shake_hands, sock)
    await process.has_clients(1)


@on_each_loop
async def test_who_may_not_connect_comes_to_no_handshake(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys, allow=["127.0.0.1/32"])
    process = await daemon(sw)
    for _ in range(100):
        other = process.socket_to(sw, "127.0.0.2")
        with other, contextlib.suppress(ConnectionError):
            assert await asyncio.to_thread(other.recv, 100) == b""
    await process.has_refused(100)
    assert "127.0.0.2 may not connect to port sw" in process.log
    assert "TLS" not in process.log
    await works(process, adapter, sw, files.client())


async def test_a_client_that_hangs_in_the_handshake_is_closed(
    adapter: Adapter,
    make_port: MakePort,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
) -> None:
    monkeypatch.setattr("ttybridge.serve.tls_door.CONNECT_SECONDS", 0.5)
    port = make_port(tls={"certificate": str(files.certificate), "key": str(files.key)})
    bench = await serve(port)
    client = await bench.connect(port)
    assert await client.rest() == b""
    assert bench.status()["counters"]["refused_clients"] == 1


@on_each_loop
async def test_a_stop_or_reload_during_handshakes_is_clean(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys)
    process = await daemon(sw)
    for _ in range(10):
        process.socket_to(sw)
    process.configure({**sw, "baudrate": 19200})
    process.signal(signal.SIGHUP)
    await process.logs("reloaded: 1 ports")
    await works(process, adapter, sw, files.client())
    for _ in range(10):
        process.socket_to(sw)
    assert await process.end() == 0


@on_each_loop
async def test_a_reload_keeps_the_clients_but_where_it_changes_tls_itself(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys)
    process = await daemon(sw)
    client = await process.connect(sw, ssl=files.client())
    process.configure(sw, entry(name="more", device="/nonexistent/tty"))
    process.signal(signal.SIGHUP)
    await process.logs("reloaded: 2 ports")
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"
    process.configure({**sw, "keepalive": 5, "allow": ["127.0.0.1"]})
    process.signal(signal.SIGHUP)
    await process.logs("reloaded: 1 ports")
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"
    ca = str(files.made / "ca.pem")
    process.configure({**sw, "tls.client_ca": ca})
    process.signal(signal.SIGHUP)
    assert await client.rest() == b""
    await process.logs("reloaded: 1 ports", 2)
    assert await fails(process, sw, files.client())
    await works(process, adapter, sw, files.client(own="client"))


@on_each_loop
async def test_a_new_certificate_is_for_new_clients_and_drops_no_old_one(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys, sharing="shared")
    process = await daemon(sw)
    old = await process.connect(sw, ssl=files.client())
    files.put("newer")
    new = await process.connect(sw, ssl=files.client("newer"))
    assert await fails(process, sw, files.client("server"))
    await adapter.send(b"x")
    for client in (old, new):
        assert await client.receive(1) == b"x"
        client.write(b"y")
        assert await adapter.receive(1) == b"y"


def _halve(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("which", ["certificate", "key"])
@pytest.mark.parametrize(
    "harm", [Path.unlink, _halve, _become_a_folder, lambda path: path.write_bytes(b"")]
)
async def test_files_that_have_become_bad_leave_the_last_good_ones_in_use(
    harm: Callable[[Path], None], which: str, adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), **files.keys)
    process = await daemon(sw)
    await works(process, adapter, sw, files.client())
    path: Path = getattr(files, which)
    harm(path)
    for _ in range(2):
        await works(process, adapter, sw, files.client())
    assert process.log.count("sw: the earlier certificate stays in use: tls") == 1
    files.put("newer")
    await works(process, adapter, sw, files.client("newer"))


async def test_a_port_listens_once_its_certificate_is_there(
    adapter: Adapter, files: Files, daemon: StartDaemon
) -> None:
    files.key.unlink()
    sw = entry(device=str(adapter.path), **files.keys)
    other = entry(name="other", device="/nonexistent/tty")
    process = await daemon(sw, other)
    problem = (await process.port())["listen_problem"]
    assert problem == f"tls.key: {files.key}: No such file or directory"
    with pytest.raises(ConnectionRefusedError):
        process.socket_to(sw)
    files.put("server")
    await process.until(lambda port: port["listening"], "the port listens")
    await works(process, adapter, sw, files.client())
    assert process.log.count(problem) == 1


def certificate_of(files: Files, **keys: str) -> Certificate:
    """What the daemon keeps of a port's certificate."""
    paths = {"certificate": str(files.certificate), "key": str(files.key), **keys}
    return Certificate(Tls(**paths), "sw")


def test_a_key_with_a_password_is_a_fault_that_says_so(files: Files) -> None:
    openssl(files.made, "ec", "-in", "server.key", "-aes128", "-passout", "pass:x",
            "-out", str(files.key))  # fmt: skip
    with pytest.raises(CertificateError, match=r"key without password, both PEM"):
        certificate_of(files).context()


def test_a_key_of_another_certificate_is_a_fault(files: Files) -> None:
    other = str(files.made / "newer.key")
    with pytest.raises(CertificateError, match=r"are not a certificate and its key.*MISMATCH"):
        certificate_of(files, key=other).context()


@pytest.mark.parametrize("text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nxx\n"])
def test_a_client_ca_that_is_none_is_a_fault(text: str, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(text)
    with pytest.raises(CertificateError, match=f"tls.client_ca: {path} holds no PEM certificate"):
        certificate_of(files, client_ca=str(path)).context()


def test_a_damaged_revocation_list_is_a_fault(files: Files, tmp_path: Path) -> None:
    path = Path(Authority(tmp_path, files.made).put())
    path.write_text(path.read_text()[:-80] + "\n-----END X509 CRL-----\n")
    with pytest.raises(CertificateError, match=f"{path} .* a revocation list is damaged"):
        certificate_of(files, client_ca=str(path)).context()


def test_a_revocation_list_alone_is_no_ca(files: Files, tmp_path: Path) -> None:
    Authority(tmp_path, files.made).put()
    path = tmp_path / "list.pem"
    with pytest.raises(CertificateError, match=f"{path} holds no PEM certificate, only a rev"):
        certificate_of(files, client_ca=str(path)).context()


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        (None, ()),
        ({}, ()),
        ({"subject": ((("commonName", "jane"),),)}, ("jane",)),
        (
            {
                "subject": ((("organizationName", "lab"),), (("commonName", "jane"),)),
                "subjectAltName": (("email", "j@lab"), ("DNS", "jane"), ("DirName", ((),))),
            },
            ("jane", "j@lab"),
        ),
        ({"subject": ((("organizationName", "lab"),),)}, ("organizationName=lab",)),
        ({"subject": (), "serialNumber": "1"}, ("a certificate without a name",)),
    ],
)
def test_the_names_of_a_certificate(
    certificate: dict[str, Any] | None, names: tuple[str, ...]
) -> None:
    assert names_in(certificate) == names


def test_a_name_is_shown_on_one_short_line() -> None:
    assert called("::1", ["a\n\x1b[2J\u202e" + "x" * 100]).startswith("a??[2J?xxx")
    assert len(called("", ["x" * 100])) < 80


def test_a_file_that_the_daemon_may_not_read_is_named(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also where root runs the tests, who may read everything.
    def deny(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(CertificateError, match=r"tls.certificate: .*: permission denied"):
        certificate_of(files).context()


def test_permission_that_is_given_later_is_noticed(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = certificate_of(files)
    first = certificate.context()
    files.put("newer")
    with monkeypatch.context() as denied:
        denied.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(PermissionError()))
        assert certificate.context() is first
    assert caplog.text.count("permission denied") == 1
    files.key.chmod(0o640)
    assert certificate.context() is not first


def test_files_that_are_as_they_were_are_not_read_again(files: Files) -> None:
    certificate = certificate_of(files)
    assert certificate.context() is certificate.context()
