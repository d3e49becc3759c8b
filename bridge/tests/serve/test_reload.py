"""A reload, key by key: what closes is what the model says, and the new value is in force."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conftest import (
    Adapter,
    Bench,
    Connect,
    MakeAdapter,
    MakePort,
    Remote,
    Serve,
    TcpClient,
    free_tcp_port,
    until,
)
from rfc2217_client import Rfc2217Client, baudrate
from simtty import DTR, RTS, Uart
from touches import touches
from ttybridge.line import capture
from ttybridge.model.check import parse_portmap
from ttybridge.model.people import Person
from ttybridge.model.ports import SER2NETS_OWN, Port
from ttybridge.serve.client import Client
from ttybridge.serve.people import Refused

TOUCHES = dict(touches())

# Values that are names of files in the folder of a test.
FILES = ("device", "file", "certificate", "key", "client_ca")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two certificates of one key, which is of use to nobody."""
    folder = tmp_path_factory.mktemp("certificates")
    make = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key"
    for name, key in (("server", make), ("other", "-key server.key")):
        subject = f"-subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
        words = f"openssl req -x509 -days 2 {key} {subject} -out {name}.pem"
        subprocess.run(words.split(), cwd=folder, check=True, capture_output=True)
    shutil.copy(folder / "server.key", folder / "copy.key")
    both = (folder / f"{name}.pem" for name in ("server", "other"))
    (folder / "both.pem").write_text("".join(file.read_text() for file in both))
    return folder


class Scene:
    """A port with a raw and a telnet client, before and after a reload."""

    def __init__(
        self,
        folder: Path,
        adapter: Adapter,
        uart: Uart,
        connect: Connect,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.folder, self.adapter, self.uart = folder, adapter, uart
        self.connect, self.caplog = connect, caplog
        self.places = [f"127.0.0.1:{free_tcp_port()}" for _ in range(3)]
        self.other: Adapter
        self.bench: Bench
        self.port: Port
        self.raw: TcpClient
        self.telnet: TcpClient

    def port_of(self, keys: dict[str, Any], own: dict[str, Any] | None) -> Port:
        """A port with some keys; `own` has those of its second listener, if it has one."""
        listen: list[Any] = [self.places[0]]
        if own is not None:
            listen.append({"at": self.places[1], "protocol": "telnet", **own})
        entry = {"name": "sw", "device": "tty", "listen": listen, "sharing": "shared", **keys}
        if "usb" in entry:
            del entry["device"]
        return parse_portmap([self._with_paths(entry)])[0]

    def _with_paths(self, keys: Any) -> Any:
        if isinstance(keys, list):
            return [self._with_paths(each) for each in keys]
        if not isinstance(keys, dict):
            return keys
        return {
            name: str(self.folder / value) if name in FILES else self._with_paths(value)
            for name, value in keys.items()
        }

    async def serve(self, serve: Serve, port: Port) -> None:
        """Serve the port, with its clients."""
        self.port, self.bench = port, await serve(port)
        self.raw = await self.comes_in()
        self.telnet = await self.comes_in(1)
        if self.bench.status()["device"]["present"]:
            await self.passes(self.raw)
            await self.passes(self.telnet)

    async def reload(self, *ports: Port) -> None:
        """Do what a reload does."""
        if ports:
            (self.port,) = ports
        await self.bench.server.apply(ports)

    def trusting(self, name: str) -> ssl.SSLContext:
        """TLS of a client that trusts one certificate."""
        return ssl.create_default_context(cafile=str(self.folder / f"{name}.pem"))

    async def newcomer(self, listener: int = 0, address: str = "") -> TcpClient:
        """Connect a client, from an address, and wait for nothing."""
        at = self.port.listeners[listener].at
        source = (address, 0) if address else None
        return await self.connect(at.address, at.port, local_addr=source)

    async def comes_in(self, listener: int = 0, trusts: str = "server") -> TcpClient:
        """Connect a client that is let in; with TLS, it trusts one certificate."""
        keys: dict[str, Any] = {}
        if tls := self.port.listeners[listener].tls:
            keys["ssl"] = self.trusting(trusts)
            if tls.client_ca:
                keys["ssl"].load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        return await self.bench.connect(self.port, listener=listener, **keys)

    async def is_refused(self, listener: int = 0, address: str = "") -> bool:
        """Whether a newcomer is refused and told so."""
        return (await (await self.newcomer(listener, address)).rest()).startswith(b"ttybridge: ")

    async def passes(self, client: TcpClient) -> None:
        """See bytes go both ways."""
        await self.adapter.send(b"from the device.")
        await client.hear(b"from the device.")
        await client.send(b"to it.")
        assert b"to it." in await self.adapter.receive(6)

    async def has_line(self, **settings: Any) -> None:
        """Wait until the line has settings."""
        await self.bench.until(
            lambda port: settings.items() <= port["line_settings"].items(), f"{settings}"
        )

    async def said(self, listener: int = 0) -> str:
        """What a newcomer is told first."""
        return (await (await self.newcomer(listener)).hear(b"\r\n")).decode("latin-1")

    def clients(self) -> tuple[Client, ...]:
        return self.bench.server._services["sw"].served.clients.all

    def keepalive(self) -> set[int]:
        """After how many seconds TCP asks each client."""
        socks = [one.connection.transport.get_extra_info("socket") for one in self.clients()]
        return {one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) for one in socks}

    def log(self, name: str = "log") -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    async def logs(self, words: str, name: str = "log") -> None:
        await until(lambda: words in self.log(name), f"{words!r} in {name}", seen=self.log)


InForce = Callable[[Scene], Awaitable[object]]


@dataclass
class Change:
    """A key before and after, and how to see that the new value is in force.

    `own_...` is what the second listener has of its own, None without it. `closes` are the clients
    that a change closes which touches a listener.
    """

    old: dict[str, Any] = field(default_factory=dict)
    new: dict[str, Any] = field(default_factory=dict)
    in_force: InForce | None = None
    own_old: dict[str, Any] = field(default_factory=dict)
    own_new: dict[str, Any] | None = field(default_factory=dict)
    closes: tuple[str, ...] = ("telnet",)


def line(**new: Any) -> Change:
    return Change({}, new, lambda scene: scene.has_line(**new))


def own_line(**own: Any) -> Change:
    async def in_force(scene: Scene) -> None:
        await scene.has_line(baudrate=9600, bytesize=8, parity="none", stopbits=1.0, flow="none")
        scene.raw.close()
        await scene.has_line(**own)

    return Change(own_new=own, in_force=in_force)


def says(key: str, value: Any) -> Change:
    async def in_force(scene: Scene) -> None:
        assert scene.bench.status()[key] == value

    return Change({}, {key: value}, in_force)


def modem_line(name: str, bit: int) -> Change:
    async def in_force(scene: Scene) -> None:
        assert scene.uart.outputs == DTR | RTS, "it stays until the device is opened again"
        scene.adapter.unplug()
        await scene.bench.has_no_device()
        scene.adapter.plug()
        await scene.bench.has_device()
        assert scene.uart.outputs == (DTR | RTS) & ~bit

    return Change({}, {name: "off"}, in_force)


def rs485(old: dict[str, Any] | str, new: dict[str, Any], *wanted: int) -> Change:
    async def in_force(scene: Scene) -> None:
        assert scene.uart.rs485[-1][:3] == wanted

    return Change({"rs485": old}, {"rs485": new}, in_force)


def log(old: dict[str, Any], new: dict[str, Any], in_force: InForce) -> Change:
    """A change of the log; a `file` is in the folder of the test."""
    return Change({"log": {"file": "log", **old}}, {"log": {"file": "log", **new}}, in_force)


def pack(old: dict[str, Any] | str, new: dict[str, Any], in_force: InForce) -> Change:
    """A change of `pack` at a line that is so slow that no pause ends within a test."""
    return Change({"pack": old, "baudrate": 50}, {"pack": new, "baudrate": 50}, in_force)


def tls(**other: str) -> dict[str, Any]:
    """The tls of a listener."""
    return {"tls": {"certificate": "server.pem", "key": "server.key", **other}}


async def is_hung_up_on_close(scene: Scene) -> None:
    assert termios.tcgetattr(scene.adapter.near)[2] & termios.HUPCL


async def passes_on_later(scene: Scene) -> None:
    assert not scene.uart.low_latency


async def gathers(scene: Scene) -> None:
    before = scene.bench.status()
    await scene.adapter.send(b"the half")
    await scene.bench.has_read(before["counters"]["from_device"] + 8)
    assert scene.bench.status()["clients"][0]["sent"] == before["clients"][0]["sent"]
    await scene.adapter.send(b", a half")
    await scene.raw.hear(b"the half, a half")


async def passes_on_eight(scene: Scene) -> None:
    await scene.adapter.send(b"the half")
    await scene.raw.hear(b"the half")


async def watches(scene: Scene) -> None:
    """A newcomer only watches, and who was there goes on writing."""
    newcomer = await scene.comes_in(1)
    writes = {one["address"]: one["writes"] for one in scene.bench.status()["clients"]}
    assert writes == {scene.raw.name: True, scene.telnet.name: True, newcomer.name: False}


async def is_raw(scene: Scene) -> None:
    client = await scene.comes_in(1)
    await scene.adapter.send(b"\xff.")
    assert await client.hear(b".") == b"\xff."


async def negotiates(scene: Scene) -> None:
    assert (await (await scene.comes_in()).receive(1)) == b"\xff"


async def listens_no_more(scene: Scene) -> None:
    number = int(scene.places[1].rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        await TcpClient.connect("127.0.0.1", number)


async def is_another(scene: Scene) -> None:
    newcomer = await scene.comes_in()
    await scene.other.send(b"other")
    assert await newcomer.receive(5) == b"other"


async def is_served(scene: Scene) -> None:
    await scene.comes_in()


async def is_gone(scene: Scene) -> None:
    assert scene.bench.server.status()["ports"] == []


async def is_renamed(scene: Scene) -> None:
    assert [port["name"] for port in scene.bench.server.status()["ports"]] == ["renamed"]
    await scene.comes_in()


async def refuses_one_more(scene: Scene) -> None:
    assert await scene.is_refused()


async def refuses_one_more_there(scene: Scene) -> None:
    assert await scene.is_refused(1)
    await scene.comes_in()


async def refuses_others(scene: Scene) -> None:
    assert await scene.is_refused(address="127.0.0.2")


async def refuses_others_there(scene: Scene) -> None:
    assert await scene.is_refused(1, "127.0.0.2")


async def lets_strangers_in(scene: Scene) -> None:
    stranger = await scene.comes_in()
    await stranger.send(b"GET / HTTP/1.1\r\n")
    assert await scene.adapter.receive(16) == b"GET / HTTP/1.1\r\n"


async def closes_the_silent(scene: Scene) -> None:
    await scene.raw.rest()


async def closes_who_types_nothing(scene: Scene) -> None:
    rest = asyncio.create_task(scene.raw.rest())
    while not rest.done():
        await scene.adapter.send(b".")
        await asyncio.sleep(0.1)


async def closes_the_finished(scene: Scene) -> None:
    scene.raw.finish()
    await scene.raw.rest()


async def asks_sooner(scene: Scene) -> None:
    assert scene.keepalive() == {7}


async def shows_what_was_said(scene: Scene) -> None:
    await scene.adapter.send(b"said before")
    await scene.raw.hear(b"said before")
    assert await (await scene.newcomer()).receive(11) == b"said before"


async def drops_while_away(scene: Scene) -> None:
    scene.adapter.unplug()
    await scene.bench.until(lambda port: not port["device"]["present"], "unplugged")
    await scene.raw.send(b"to nobody")
    await scene.bench.until(lambda port: port["counters"]["dropped"] == 9, "dropped")


async def is_welcome(scene: Scene) -> None:
    assert "welcome" in await scene.said()


async def is_welcome_there(scene: Scene) -> None:
    assert "welcome" in await scene.said(1)


async def says_words_first(scene: Scene) -> None:
    for client in (scene.raw, scene.telnet):
        client.close()
    await scene.bench.has_clients(0)
    await scene.comes_in()
    assert b"hello" in await scene.adapter.receive(5)


async def says_words_last(scene: Scene) -> None:
    for client in (scene.raw, scene.telnet):
        client.close()
    assert b"exit" in await scene.adapter.receive(4)


async def closes_all_without_carrier(scene: Scene) -> None:
    assert not termios.tcgetattr(scene.adapter.near)[2] & termios.CLOCAL
    scene.adapter.unplug()
    assert b"went away" in await scene.raw.rest()


async def writes_a_log(scene: Scene) -> None:
    await scene.adapter.send(b"logged\n")
    await scene.logs("logged")


async def writes_the_other_log(scene: Scene) -> None:
    before = scene.log()
    await scene.adapter.send(b"logged\n")
    await scene.logs("logged", "log2")
    await until(lambda: "from the device." in scene.log(), "the first log has its last bytes")
    assert "logged" not in before + scene.log()


async def logs_without_times(scene: Scene) -> None:
    await scene.adapter.send(b"\nlogged\n")
    await scene.logs("\nlogged\n")


async def logs_input(scene: Scene) -> None:
    await scene.raw.send(b"\ntyped\n")
    await scene.logs(": typed\n")


async def logs_input_only(scene: Scene) -> None:
    await scene.raw.send(b"typed\n")
    await scene.logs(f" {scene.raw.name}: typed\n")
    await scene.adapter.send(b"said\n")
    await scene.raw.hear(b"said\n")
    await scene.raw.send(b"the end\n")
    await scene.logs("the end\n")
    assert "said\n" not in scene.log()


async def keeps_less(scene: Scene) -> None:
    for _ in range(16):
        await scene.adapter.send(b"y" * 1023 + b"\n")
    await scene.adapter.send(b"the end\n")
    await scene.logs("the end")
    assert len(scene.log()) <= 2048


async def writes_seldom(scene: Scene) -> None:
    log = scene.bench.server._services["sw"].served.capture
    assert log
    assert log._pace is capture.VOLATILE


async def reads_along(scene: Scene) -> None:
    monitor = scene.bench.server._services["sw"].served.monitor
    assert monitor
    assert monitor._journal


async def counts_matches(scene: Scene) -> None:
    await scene.adapter.send(b"Oops\n")
    await until(lambda: scene.bench.status()["watch"] == {"panic": 1}, "it is counted")


async def lets_in_there(scene: Scene) -> None:
    await scene.passes(await scene.comes_in(1))


async def shows_the_other_certificate(scene: Scene) -> None:
    await scene.passes(await scene.comes_in(1, trusts="other"))


async def reads_the_other_key(scene: Scene) -> None:
    (scene.folder / "server.key").unlink()
    await lets_in_there(scene)
    assert "the earlier certificate stays in use" not in scene.caplog.text


async def wants_a_certificate(scene: Scene) -> None:
    at = scene.port.listeners[1].at
    # In TLS 1.3 a client learns so only when it reads.
    client = await scene.connect(at.address, at.port, ssl=scene.trusting("server"))
    assert await client.is_closed()
    await scene.bench.has_refused(1)


async def lets_in_only_the_named(scene: Scene) -> None:
    context = scene.trusting("server")
    context.load_cert_chain(scene.folder / "other.pem", scene.folder / "server.key")
    at = scene.port.listeners[1].at
    said = await (await scene.connect(at.address, at.port, ssl=context)).rest()
    assert b"other at 127.0.0.1:" in said
    assert b"may not use port sw: its certificate is not in allow_names" in said
    await lets_in_there(scene)


async def lets_in_only_jane(scene: Scene) -> None:
    """Of people; whoever comes by TCP is not asked."""
    jane, joe = Person("jane"), Person("joe", ["dialout"])
    assert scene.bench.server.visit("sw", jane, True, False, None)
    with pytest.raises(Refused, match="joe may not use port sw: jane may"):
        scene.bench.server.visit("sw", joe, True, False, None)
    await lets_in_there(scene)


async def breaks(scene: Scene, client: TcpClient) -> bool:
    """Whether a telnet client sends a break."""
    scene.uart.done.clear()
    await client.send(b"\xff\xf3")
    await scene.passes(client)
    return "break" in scene.uart.done


async def sends_no_break(scene: Scene) -> None:
    assert not await breaks(scene, scene.telnet)


async def is_for_verify(scene: Scene) -> None:
    """The daemon does not use it."""


USB = {"vendor": "067b", "product": "2303", "serial": "A1", "path": "1-1", "interface": 0}


def usb(**key: Any) -> Change:
    """Another adapter; here it is away."""
    return Change({"usb": {**USB, "port": 0}}, {"usb": {**USB, "port": 0, **key}}, is_served)


def own_tls(in_force: InForce, **new: str) -> Change:
    return Change(own_old=tls(), own_new=tls(**new), in_force=in_force)


def probe(**key: Any) -> Change:
    old = {"send": "a", "expect": "b"}
    return Change({"probe": old}, {"probe": {**old, **key}}, is_for_verify)


CHANGES = {
    "name": Change({}, {"name": "renamed"}, is_renamed),
    "listen": Change(own_new=None, in_force=listens_no_more),
    "listen.at": Change(own_new={"at": "another"}, in_force=lets_in_there),
    "listen.protocol": Change(own_new={"protocol": "raw"}, in_force=is_raw),
    "listen.options": Change({}, {"engine": "ser2net"}, is_gone, own_new={"options": ["mdns=on"]}),
    "listen.access": Change(own_new={"access": "watch"}, in_force=watches),
    "listen.allow": Change(own_new={"allow": ["127.0.0.1"]}, in_force=refuses_others_there),
    "listen.allow_names": Change(
        own_old=tls(client_ca="both.pem"),
        own_new={**tls(client_ca="both.pem"), "allow_names": ["server"]},
        in_force=lets_in_only_the_named,
    ),
    "listen.tls": Change(own_new=tls(), in_force=lets_in_there),
    "listen.forbid": Change(own_new={"forbid": ["break"]}, in_force=sends_no_break),
    "listen.max_clients": Change(own_new={"max_clients": 1}, in_force=refuses_one_more_there),
    "listen.banner": Change(own_new={"banner": "welcome"}, in_force=is_welcome_there),
    "listen.baudrate": own_line(baudrate=115200),
    "listen.bytesize": own_line(bytesize=7),
    "listen.parity": own_line(parity="even"),
    "listen.stopbits": own_line(stopbits=2.0),
    "listen.flow": own_line(flow="xonxoff"),
    "usb": Change({"usb": USB}, {"usb": {"serial": "A2"}}, is_served),
    "usb.vendor": usb(vendor="0403"),
    "usb.product": usb(product="6001"),
    "usb.serial": usb(serial="A2"),
    "usb.path": usb(path="1-2"),
    "usb.id_path": usb(id_path="platform-usb-0:1.2:1.0"),
    "usb.manufacturer": usb(manufacturer="ACME"),
    "usb.product_name": usb(product_name="USB serial"),
    "usb.bcdDevice": usb(bcdDevice="0264"),
    "usb.interface": usb(interface=1),
    "usb.port": usb(port=1),
    "device": Change({}, {"device": "tty2"}, is_another),
    "protocol": Change({}, {"protocol": "telnet"}, negotiates, closes=("raw",)),
    "engine": Change({}, {"engine": "ser2net"}, is_gone),
    "baudrate": line(baudrate=115200),
    "bytesize": line(bytesize=7),
    "parity": line(parity="odd"),
    "stopbits": line(stopbits=2.0),
    "flow": line(flow="xonxoff"),
    "dtr": modem_line("dtr", DTR),
    "rts": modem_line("rts", RTS),
    "hangup": Change({}, {"hangup": True}, is_hung_up_on_close),
    "low_latency": Change({}, {"low_latency": "off"}, passes_on_later),
    "pack": pack("off", {"idle": 1000, "max": 16}, gathers),
    "pack.idle": pack({"idle": 0.5, "max": 16}, {"idle": 1000, "max": 16}, gathers),
    "pack.max": pack({"idle": 1000, "max": 16}, {"idle": 1000, "max": 8}, passes_on_eight),
    "first_words": Change({}, {"first_words": "hello"}, says_words_first),
    "last_words": Change({}, {"last_words": "exit"}, says_words_last),
    "carrier": Change({}, {"carrier": "follow"}, closes_all_without_carrier),
    "rs485": rs485("off", {"delay_before_send": 3}, 0b011, 3, 0),
    "rs485.rts_on_send": rs485({"rts_on_send": True}, {"rts_on_send": False}, 0b101, 0, 0),
    "rs485.rx_during_tx": rs485({"rx_during_tx": False}, {"rx_during_tx": True}, 0b10011, 0, 0),
    "rs485.delay_before_send": rs485({"delay_before_send": 1}, {"delay_before_send": 2}, 3, 2, 0),
    "rs485.delay_after_send": rs485({"delay_after_send": 1}, {"delay_after_send": 2}, 3, 0, 2),
    "sharing": Change({}, {"sharing": "exclusive"}, refuses_one_more),
    "max_clients": Change({}, {"max_clients": 1}, refuses_one_more),
    "allow": Change({}, {"allow": ["127.0.0.1"]}, refuses_others),
    "allow_names": Change(
        tls(client_ca="both.pem"),
        {**tls(client_ca="both.pem"), "allow_names": ["server"]},
        lets_in_only_the_named,
    ),
    "users": Change({}, {"users": ["jane"]}, lets_in_only_jane),
    "tls": Change({}, tls(), lets_in_there, closes=("raw", "telnet")),
    "tls.certificate": own_tls(shows_the_other_certificate, certificate="other.pem"),
    "tls.key": own_tls(reads_the_other_key, key="copy.key"),
    "tls.client_ca": own_tls(wants_a_certificate, client_ca="other.pem"),
    "guard": Change({}, {"guard": False}, lets_strangers_in),
    "forbid": Change({}, {"forbid": ["break"]}, sends_no_break),
    "idle_timeout": Change({}, {"idle_timeout": 3}, closes_the_silent),
    "idle": Change(
        {"idle_timeout": 3}, {"idle_timeout": 3, "idle": "input"}, closes_who_types_nothing
    ),
    "away": Change({}, {"away": "drop"}, drops_while_away),
    "half_close_timeout": Change(
        {"half_close_timeout": 86_400}, {"half_close_timeout": 0}, closes_the_finished
    ),
    "keepalive": Change({}, {"keepalive": 7}, asks_sooner),
    "replay": Change({}, {"replay": 11}, shows_what_was_said),
    "log": Change({}, {"log": {"file": "log"}}, writes_a_log),
    "log.file": log({}, {"file": "log2"}, writes_the_other_log),
    "log.timestamps": log({}, {"timestamps": False}, logs_without_times),
    "log.input": log({}, {"input": True}, logs_input),
    "log.output": log({"input": True}, {"input": True, "output": False}, logs_input_only),
    "log.max_size": log({}, {"max_size": 4096}, keeps_less),
    "log.volatile": log({}, {"volatile": True}, writes_seldom),
    "log.journal": log({}, {"journal": True}, reads_along),
    "watch": Change({}, {"watch": {"panic": "Oops"}}, counts_matches),
    "banner": Change({}, {"banner": "welcome"}, is_welcome),
    "options": Change({}, {"engine": "ser2net", "options": ["closeon=bye"]}, is_gone),
    "probe": Change({}, {"probe": {"send": "a", "expect": "b"}}, is_for_verify),
    "probe.send": probe(send="c"),
    "probe.expect": probe(expect="d"),
    "description": says("description", "Core switch"),
    "location": says("location", "rack 1"),
    "tags": says("tags", ["lab"]),
}


@pytest.fixture
def scene(
    tmp_path: Path,
    certificates: Path,
    adapter: Adapter,
    make_adapter: MakeAdapter,
    uart: Uart,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> Scene:
    """A port that is not served yet; another adapter and certificates are there."""
    shutil.copytree(certificates, tmp_path, dirs_exist_ok=True)
    made = Scene(tmp_path, adapter, uart, connect, caplog)
    made.other = make_adapter("tty2")
    return made


def test_every_key_has_a_change() -> None:
    # `connect` is a port without a listener: see below.
    # A listener of ttybridge cannot have a key of SER2NETS_OWN for itself.
    ser2nets = {f"listen.{key}" for key in SER2NETS_OWN}
    assert {*CHANGES, "connect", *ser2nets} == TOUCHES.keys()


@pytest.mark.parametrize("key", CHANGES)
async def test_a_change_of_a_key_closes_what_the_table_says_and_is_in_force(
    key: str, scene: Scene, serve: Serve
) -> None:
    change = CHANGES[key]
    await scene.serve(serve, scene.port_of(change.old, change.own_old))
    own = change.own_new
    if own and "at" in own:
        own = {**own, "at": scene.places[2]}
    port = scene.port_of(change.new, own)
    await scene.reload(*([port] if port.engine == "bridge" else []))
    closed = {"live": (), "listener": change.closes, "port": ("raw", "telnet")}[TOUCHES[key]]
    for name, client in (("raw", scene.raw), ("telnet", scene.telnet)):
        if name in closed:
            await client.rest()
        else:
            await scene.passes(client)
    assert change.in_force
    await change.in_force(scene)


async def test_a_port_that_connects_elsewhere_connects_anew_and_keeps_its_device(
    scene: Scene, serve: Serve, remote: Remote
) -> None:
    def port(place: str, **keys: Any) -> Port:
        device = str(scene.adapter.path)
        return parse_portmap([{"name": "sw", "device": device, "connect": place, **keys}])[0]

    other = Remote()
    await other.listen()
    scene.bench = await serve(port(remote.place))
    first = await remote.accept()
    await scene.reload(port(remote.place, keepalive=7, description="the same"))
    await scene.passes(first)
    assert scene.keepalive() == {7}
    opened = scene.caplog.text.count("is open")
    await scene.reload(port(other.place))
    assert await first.is_closed()
    await scene.passes(await other.accept())
    assert scene.caplog.text.count("is open") == opened
    other.close()


async def test_a_client_that_may_no_longer_connect_is_closed_and_the_others_stay(
    scene: Scene, serve: Serve
) -> None:
    await scene.serve(serve, scene.port_of({}, {}))
    elsewhere = await scene.newcomer(1, "127.0.0.2")
    await scene.bench.has_clients(3)
    await scene.reload(scene.port_of({}, {"allow": ["127.0.0.1"]}))
    assert b"127.0.0.2 may not connect to port sw" in await elsewhere.rest()
    for client in (scene.raw, scene.telnet):
        await scene.passes(client)


async def test_what_an_rfc2217_client_has_set_stays_until_it_leaves(
    scene: Scene, serve: Serve
) -> None:
    own = {"protocol": "rfc2217"}
    await scene.serve(serve, scene.port_of({}, own))
    client = Rfc2217Client(scene.telnet)
    await client.agree()
    await client.ask(*baudrate(19200))
    await scene.reload(scene.port_of({"baudrate": 115200}, own))
    await scene.passes(scene.raw)
    await scene.has_line(baudrate=19200)
    scene.telnet.close()
    await scene.has_line(baudrate=115200)


async def test_a_listener_comes_and_goes_beside_others(scene: Scene, serve: Serve) -> None:
    one, two = scene.port_of({}, None), scene.port_of({}, {})
    scene.port, scene.bench = one, await serve(one)
    raw = await scene.comes_in()
    for _ in range(2):
        await scene.reload(two)
        telnet = await scene.comes_in(1)
        await scene.passes(raw)
        await scene.reload(one)
        await telnet.rest()
        await scene.passes(raw)
    assert len(scene.bench.server._services["sw"].served.acceptors) == 1


async def test_a_listener_moves_from_one_port_to_another(
    scene: Scene, make_port: MakePort, serve: Serve
) -> None:
    both, one = scene.port_of({}, {}), scene.port_of({}, None)
    await scene.serve(serve, both)
    taker = make_port(name="taker", device="/nonexistent/tty", listen=scene.places[1])
    await scene.bench.server.apply([taker, one])
    await scene.telnet.rest()
    await scene.bench.connect(taker)
    await scene.passes(scene.raw)
    assert "another program holds" not in scene.caplog.text


async def test_keepalive_goes_back_to_that_of_the_kernel(scene: Scene, serve: Serve) -> None:
    await scene.serve(serve, scene.port_of({"keepalive": 7}, {}))
    await scene.reload(scene.port_of({"keepalive": 0}, {}))
    with socket.socket() as new:
        assert scene.keepalive() == {new.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)}
    await scene.passes(scene.raw)


async def test_silence_counts_from_the_reload_on(scene: Scene, serve: Serve) -> None:
    await scene.serve(serve, scene.port_of({"idle_timeout": 3600}, {}))
    for client in scene.clients():
        client.state.active_at -= 1800
    await scene.reload(scene.port_of({"idle_timeout": 60}, {}))
    await scene.passes(scene.raw)
    await scene.reload(scene.port_of({"idle_timeout": 0}, {}))
    await scene.passes(scene.telnet)


async def test_who_no_longer_writes_is_told_so(scene: Scene, serve: Serve) -> None:
    await scene.serve(serve, scene.port_of({}, {}))
    await scene.reload(scene.port_of({"sharing": "observed"}, {}))
    await scene.telnet.hear(f"you watch {scene.raw.name}, who writes")
    await scene.telnet.send(b"dropped")
    await scene.passes(scene.raw)
    await scene.reload(scene.port_of({"sharing": "shared"}, {}))
    await scene.telnet.hear("you write now")
    await scene.passes(scene.telnet)


async def test_what_waits_for_the_device_goes_out_under_another_rule(
    scene: Scene, serve: Serve
) -> None:
    pasted = b"a" * 200_000
    await scene.serve(serve, scene.port_of({}, {}))
    await scene.raw.send(pasted)
    await scene.bench.has_taken(len(pasted))
    for rule in ("observed", "shared", "exclusive"):
        await scene.reload(scene.port_of({"sharing": rule}, {}))
    received = await scene.adapter.receive(len(pasted))
    assert received.removeprefix(b"to it.") == pasted


async def test_rs485_ends(scene: Scene, serve: Serve) -> None:
    await scene.serve(serve, scene.port_of({"rs485": {"delay_before_send": 1}}, {}))
    assert scene.uart.rs485[-1][0] == 0b011
    await scene.reload(scene.port_of({}, {}))
    assert scene.uart.rs485[-1][0] == 0


async def test_a_log_ends_and_a_stop_waits_for_its_last_bytes(scene: Scene, serve: Serve) -> None:
    await scene.serve(serve, scene.port_of({"log": {"file": "log"}}, {}))
    await scene.adapter.send(b"the end\n")
    await scene.raw.hear(b"the end\n")
    await scene.reload(scene.port_of({}, {}))
    await scene.adapter.send(b"later\n")
    await scene.raw.hear(b"later\n")
    await scene.bench.close()
    assert "the end" in scene.log()
    assert "later" not in scene.log()


async def test_a_device_that_is_away_comes_back_with_the_new_line(
    scene: Scene, serve: Serve
) -> None:
    await scene.serve(serve, scene.port_of({}, {}))
    scene.adapter.unplug()
    await scene.bench.has_no_device()
    await scene.reload(scene.port_of({"baudrate": 115200, "rs485": {"delay_before_send": 1}}, {}))
    scene.adapter.plug()
    await scene.has_line(baudrate=115200)
    assert scene.uart.rs485
    await scene.passes(scene.raw)


# A port that nobody can reach.


async def test_a_port_that_cannot_listen_leaves_its_device_to_others(
    scene: Scene, make_port: MakePort, serve: Serve
) -> None:
    port, fine = scene.port_of({}, None), make_port(name="fine", device="/nonexistent/tty")
    at = port.listeners[0].at
    with socket.create_server((at.address, at.port)):
        scene.port, scene.bench = port, await serve(port, fine)
        device = scene.bench.status()["device"]
        assert not device["present"]
        assert device["problem"].endswith("is not opened: the port does not listen")
    await scene.bench.has_device()
    await scene.passes(await scene.comes_in())
    assert scene.bench.status()["device"]["problem"] is None


async def test_a_port_that_listens_no_more_releases_its_device(scene: Scene, serve: Serve) -> None:
    await scene.serve(serve, scene.port_of({}, {}))
    address, _, number = scene.places[2].rpartition(":")
    with socket.create_server((address, int(number))):
        moved = parse_portmap(
            [{"name": "sw", "device": str(scene.adapter.path), "listen": scene.places[2]}]
        )
        await scene.reload(*moved)
        await scene.raw.rest()
        await scene.bench.has_no_device()
    await scene.bench.has_device()
    await scene.passes(await scene.comes_in())
