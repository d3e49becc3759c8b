"""A restart, seen by clients and devices; a stand-in for systemd keeps what the daemon leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conftest import TIMEOUT, Adapter, eventually, free_tcp_port
from process import LOOPS, Daemon, entry, tcp_port

# Puts the descriptors where sd_listen_fds(3) says, and becomes the daemon.
_LAUNCHER = """
import fcntl, os, sys
given = [int(each) for each in sys.argv[1].split(",")]
numbers = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 600) for each in given]
for each in given:
    os.close(each)
for place, number in enumerate(numbers, start=3):
    os.dup2(number, place)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Kept(Daemon):
    """A daemon under a service manager that keeps its descriptors over a restart."""

    def __init__(self, folder: Path, loop: str) -> None:
        super().__init__(folder)
        self.store: dict[str, int] = {}
        self.entries: tuple[dict[str, Any], ...] = ()
        self.answers = True
        """Whether it says that it has read what was sent to it."""
        self._unanswered: list[int] = []
        self._loop = loop
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(folder / "notify"))
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    async def serve(self, *entries: dict[str, Any]) -> None:
        """Start, with what is in the store."""
        self.entries = entries
        notify = self._sock.getsockname()
        await self.start(*entries, loop=self._loop, NOTIFY_SOCKET=notify, FDSTORE="4096")

    async def stop(self) -> None:
        """End it; what it leaves is kept."""
        assert await self.end() == 0
        assert "Traceback" not in self.log, self.log

    async def restart(self) -> None:
        """As systemctl restart does."""
        await self.stop()
        await self.serve(*self.entries)
        await eventually(lambda: not self.store)

    def _spawn(self, words: list[str], env: dict[str, str]) -> None:
        names, numbers = ":".join(self.store), list(self.store.values())
        if numbers:
            env |= {"LISTEN_FDS": str(len(numbers)), "LISTEN_FDNAMES": names}
            launcher = [sys.executable, "-c", _LAUNCHER, ",".join(map(str, numbers))]
            words = [*launcher, *words]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(words, env=env, stderr=log, pass_fds=numbers)

    def _keep(self) -> None:
        while True:
            data, received, _, _ = socket.recv_fds(self._sock, 4096, 8)
            if not data:
                return
            message = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "FDSTORE" in message:
                (self.store[message["FDNAME"]],) = received
                continue
            if "BARRIER" in message and not self.answers:
                self._unanswered += received
                continue
            for descriptor in received:  # of a BARRIER
                os.close(descriptor)
            if "FDSTOREREMOVE" in message:
                os.close(self.store.pop(message["FDNAME"]))

    def forget(self) -> None:
        """As systemd does for a unit that is stopped for good."""
        for name in tuple(self.store):
            os.close(self.store.pop(name))

    def close(self) -> None:
        with contextlib.suppress(OSError):  # not connected, it says, and does it
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        self._sock.close()
        self.forget()
        for descriptor in self._unanswered:
            os.close(descriptor)


@contextlib.asynccontextmanager
async def kept(*entries: dict[str, Any], loop: str = LOOPS[-1]) -> AsyncIterator[Kept]:
    with tempfile.TemporaryDirectory() as folder:
        made = Kept(Path(folder), loop)
        try:
            async with asyncio.timeout(6 * TIMEOUT):
                await made.serve(*entries)
                yield made
            assert made.forgiven or "Traceback" not in made.log, made.log
        finally:
            if made.process and not made.ended:
                made.process.kill()
            if made.process:
                made.process.wait(TIMEOUT)
            made.close()


async def receive(reader: asyncio.StreamReader, size: int) -> bytes:
    async with asyncio.timeout(2 * TIMEOUT):
        return await reader.readexactly(size)


async def closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(TIMEOUT):
        with contextlib.suppress(ConnectionError):
            return await reader.read() == b""
        return True


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_client_in_mid_stream_notices_nothing_of_three_restarts(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    there, back = random.Random(1).randbytes(2**20), random.Random(2).randbytes(2**20)
    async with kept(sw, loop=loop) as daemon:
        reader, writer = await daemon.connect(sw)
        writer.write(there)
        at_device = asyncio.create_task(adapter.receive(len(there)))
        at_client = asyncio.create_task(receive(reader, len(back)))
        sending = asyncio.create_task(adapter.send(back))
        for _ in range(3):
            await asyncio.sleep(0.05)
            await daemon.restart()
        assert await at_device == there
        assert await at_client == back
        await sending
        writer.close()


@pytest.mark.parametrize("loop", LOOPS)
async def test_who_connects_while_no_daemon_runs_is_served_by_the_next(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw, loop=loop) as daemon:
        await daemon.stop()
        _, writer = await asyncio.open_connection("127.0.0.1", tcp_port(sw))
        writer.write(b"hello")
        await daemon.serve(sw)
        assert await adapter.receive(5) == b"hello"
        writer.close()


async def test_what_the_device_says_meanwhile_is_not_lost(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        await daemon.stop()
        await adapter.send(b"a word")
        await daemon.serve(sw)
        assert await receive(reader, 6) == b"a word"
        writer.close()


async def test_telnet_is_not_negotiated_again_and_goes_on_in_the_middle_of_a_command(
    adapter: Adapter,
) -> None:
    sw = entry(device=str(adapter.path), protocol="telnet")
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        await receive(reader, 15)  # WILL BINARY, ECHO, SGA, DO SGA, BINARY
        writer.write(bytes((255, 253, 0, 255, 251, 0)) + b"a" + bytes((255,)))
        assert await adapter.receive(1) == b"a"
        await daemon.restart()
        writer.write(bytes((255,)) + b"b")  # the second half of an escaped 255
        assert await adapter.receive(2) == b"\xffb"
        await adapter.send(b"\r\xff")
        # With BINARY agreed on, CR stands alone.
        assert await receive(reader, 3) == b"\r\xff\xff"
        writer.close()


async def test_the_line_stays_as_an_rfc2217_client_has_set_it_until_that_leaves(
    adapter: Adapter,
) -> None:
    sw = entry(device=str(adapter.path), protocol="rfc2217")
    async with kept(sw) as daemon:
        _, writer = await daemon.connect(sw)
        writer.write(bytes((255, 251, 44, 255, 250, 44, 1)) + (19200).to_bytes(4, "big"))
        writer.write(bytes((255, 240)))
        await daemon.until(lambda port: port["line_settings"]["baudrate"] == 19200)
        await daemon.restart()
        assert (await daemon.port())["line_settings"]["baudrate"] == 19200
        writer.close()
        await daemon.until(lambda port: port["line_settings"]["baudrate"] == 9600)


async def test_counters_times_and_replay_go_on(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", replay=100)
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        writer.write(b"there")
        await adapter.receive(5)
        await adapter.send(b"and back")
        await receive(reader, 8)
        await asyncio.sleep(1)
        await daemon.restart()
        port = await daemon.port()
        assert port["counters"]["from_device"] == 8
        assert port["counters"]["to_device"] == 5
        (client,) = port["clients"]
        assert (client["received"], client["sent"]) == (5, 8)
        assert client["connected_for"] >= 1
        newcomer, other = await daemon.connect(sw)
        assert await receive(newcomer, 8) == b"and back"
        writer.close()
        other.close()


async def test_of_observers_the_same_one_writes(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path), sharing="observed")
    async with kept(sw) as daemon:
        clients = [await daemon.connect(sw) for _ in range(4)]
        await daemon.restart()
        assert [each["writes"] for each in (await daemon.port())["clients"]] == [
            True,
            False,
            False,
            False,
        ]
        for number, (_, writer) in enumerate(clients):
            writer.write(b"%d" % number)
        assert await adapter.receive(1) == b"0"
        await adapter.send(b"for all")
        for reader, writer in clients:
            assert await receive(reader, 7) == b"for all"
            writer.close()


async def test_who_waits_to_replace_a_client_is_closed_and_that_one_goes_on(
    adapter: Adapter,
) -> None:
    sw = entry(device=str(adapter.path), sharing="replace")
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        waiting, other = await daemon.connect(sw)
        await daemon.restart()
        assert await closed(waiting)
        writer.write(b"x")
        assert await adapter.receive(1) == b"x"
        await adapter.send(b"y")
        assert await receive(reader, 1) == b"y"
        other.close()
        writer.close()


async def test_a_client_that_has_said_nothing_before_a_restart_is_judged_after_it(
    adapter: Adapter,
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        await daemon.restart()
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await closed(reader)
        assert "refused: it begins like an HTTP request" in daemon.log
        writer.close()
        _, writer = await daemon.connect(sw)
        writer.write(b"mine")
        assert await adapter.receive(4) == b"mine"
        writer.close()


async def test_what_waits_for_an_absent_device_is_still_written(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        _, writer = await daemon.connect(sw)
        adapter.unplug()
        await daemon.until(lambda port: not port["device"]["present"])
        writer.write(b"later")
        await daemon.until(lambda port: port["clients"][0]["received"] == 5)
        await daemon.restart()
        adapter.plug()
        assert await adapter.receive(5) == b"later"
        assert (await daemon.port())["counters"]["reconnects"] == 1
        writer.close()


async def test_a_device_that_was_changed_for_another_meanwhile_is_opened_anew(
    adapter: Adapter,
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        await daemon.stop()
        far, adapter.far = adapter.far, -1
        adapter.path.unlink()
        adapter.plug()
        await daemon.serve(sw)
        await daemon.until(lambda port: port["device"]["present"])
        await adapter.send(b"new")
        assert await receive(reader, 3) == b"new"
        writer.close()
        os.close(far)


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_client_that_takes_nothing_misses_nothing(loop: str, adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    data = random.Random(3).randbytes(7 * 2**20)
    async with kept(sw, loop=loop) as daemon:
        lazy = socket.create_connection(("127.0.0.1", tcp_port(sw)))
        reader, writer = await daemon.connect(sw)
        reading = asyncio.create_task(receive(reader, len(data)))
        await adapter.send(data)
        assert await reading == data
        await daemon.restart()
        await daemon.restart()
        await adapter.send(b"the end")
        lazy.setblocking(False)
        late = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: asyncio.StreamReaderProtocol(late), sock=lazy
        )
        assert await receive(late, len(data) + 7) == data + b"the end"
        transport.close()
        writer.close()


async def test_a_port_whose_entry_has_changed_begins_anew_and_the_others_go_on(
    adapter: Adapter, tmp_path: Path
) -> None:
    sw = entry(device=str(adapter.path))
    other = entry(device=str(tmp_path / "absent"), name="other")
    gone = entry(device=str(tmp_path / "absent2"), name="gone")
    async with kept(sw, other, gone) as daemon:
        of_sw, writer = await daemon.connect(sw)
        of_other, other_writer = await daemon.connect(other)
        of_gone, gone_writer = await daemon.connect(gone)
        await daemon.stop()
        await daemon.serve(sw, {**other, "baudrate": 115200})
        assert await closed(of_other)
        assert await closed(of_gone)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", tcp_port(gone))
        await adapter.send(b"x")
        assert await receive(of_sw, 1) == b"x"
        again, again_writer = await daemon.connect(other)
        for each in (writer, other_writer, gone_writer, again_writer):
            each.close()
        assert not again.at_eof()


async def test_a_stop_for_good_closes_all(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        writer.write(b"last words")
        await daemon.stop()
        assert await adapter.receive(10) == b"last words"
        daemon.forget()
        assert await closed(reader)
        writer.close()


async def test_a_port_that_connects_keeps_its_connection(adapter: Adapter) -> None:
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted.put((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    place = "{}:{}".format(*server.sockets[0].getsockname())
    sw = {"name": "sw", "device": str(adapter.path), "connect": place}
    async with kept(sw) as daemon:
        reader, writer = await accepted.get()
        await daemon.restart()
        await adapter.send(b"still")
        assert await receive(reader, 5) == b"still"
        await asyncio.sleep(1.5)
        assert accepted.empty()
        writer.close()
        again, writer = await accepted.get()
        await daemon.until(lambda port: bool(port["clients"]))
        await adapter.send(b"anew")
        assert await receive(again, 4) == b"anew"
        writer.close()
    server.close()


async def test_a_state_that_cannot_be_read_costs_the_clients_and_nothing_else(
    adapter: Adapter,
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        await daemon.stop()
        os.ftruncate(daemon.store["state"], 3)
        await daemon.serve(sw)
        assert await closed(reader)
        assert "hand-over failed, clients are disconnected" in daemon.log
        writer.close()
        _, writer = await daemon.connect(sw)
        writer.write(b"anew")
        assert await adapter.receive(4) == b"anew"
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Leave without a farewell."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _more_than_it_takes(
    daemon: Kept, sw: dict[str, Any]
) -> tuple[asyncio.StreamWriter, bytes]:
    """A client that has sent a device more than that takes while nobody reads it."""
    _, writer = await daemon.connect(sw)
    data = bytes(range(1, 251)) * 240
    writer.write(data)
    await daemon.until(lambda port: port["clients"][0]["received"] == len(data), sw["name"])
    return writer, data


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_port_does_nothing_that_the_next_process_does_again_while_another_is_slow(
    loop: str, adapter: Adapter, tmp_path: Path
) -> None:
    slow_adapter = Adapter(tmp_path / "slow")
    sw = entry(device=str(adapter.path))
    slow = entry(device=str(slow_adapter.path), name="slow")
    async with kept(sw, slow, loop=loop) as daemon:
        writer, data = await _more_than_it_takes(daemon, sw)
        slow_writer, _ = await _more_than_it_takes(daemon, slow)
        await asyncio.sleep(2)  # nothing moves at sw any more
        stopping = asyncio.create_task(daemon.stop())
        for _ in range(8):
            await asyncio.sleep(0.1)
            await slow_adapter.receive(1000)
        assert not daemon.ended
        received = await adapter.receive(30000)
        await stopping
        await daemon.serve(sw, slow)
        received += await adapter.receive(len(data) - len(received))
        assert received == data
        await asyncio.sleep(0.2)
        with pytest.raises(BlockingIOError):
            os.read(adapter.far, 1)
        writer.close()
        slow_writer.close()
    slow_adapter.unplug()


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_client_that_ends_while_another_port_is_slow_costs_nobody_else(
    loop: str, adapter: Adapter, tmp_path: Path
) -> None:
    slow_adapter = Adapter(tmp_path / "slow")
    sw = entry(device=str(adapter.path), sharing="shared")
    slow = entry(device=str(slow_adapter.path), name="slow")
    async with kept(sw, slow, loop=loop) as daemon:
        slow_writer, _ = await _more_than_it_takes(daemon, slow)
        reader, writer = await daemon.connect(sw)
        _, ending = await daemon.connect(sw)
        ending.write_eof()
        await asyncio.sleep(0.2)
        await daemon.restart()
        await adapter.send(b"x")
        assert await receive(reader, 1) == b"x"
        for each in (slow_writer, writer, ending):
            each.close()
    slow_adapter.unplug()


async def test_a_device_that_is_lost_after_a_restart_comes_back_though_a_sender_has_left(
    adapter: Adapter,
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        writer, _ = await _more_than_it_takes(daemon, sw)
        _reset(writer)
        await daemon.until(lambda port: not port["clients"])
        await daemon.restart()
        adapter.unplug()
        await daemon.until(lambda port: not port["device"]["present"])
        adapter.plug()
        await daemon.until(lambda port: port["device"]["present"])
        assert "their client left while the device was away" in daemon.log


@pytest.mark.parametrize("loop", LOOPS)
async def test_what_waits_survives_a_device_that_is_plugged_anew_during_the_restart(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw, loop=loop) as daemon:
        writer, data = await _more_than_it_takes(daemon, sw)
        await daemon.stop()
        written = _state(daemon)["sw"]["written"]
        assert written < len(data)
        os.close(adapter.far)  # hung up, but the same name and number
        adapter.far = -1
        await daemon.serve(sw)
        await daemon.until(lambda port: not port["device"]["present"])
        adapter.path.unlink()
        os.close(adapter._near)
        adapter.plug()
        assert await adapter.receive(len(data) - written) == data[written:]
        writer.close()


def _state(daemon: Kept) -> Any:
    return json.loads(os.pread(daemon.store["state"], 2**24, 0))


@pytest.mark.parametrize("loop", LOOPS)
async def test_the_line_of_an_rfc2217_client_that_vanishes_in_the_restart_is_restored(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), protocol="rfc2217")
    async with kept(sw, loop=loop) as daemon:
        _, writer = await daemon.connect(sw)
        writer.write(_WILL_COM_PORT + _BAUDRATE_19200)
        await daemon.until(lambda port: port["line_settings"]["baudrate"] == 19200)
        await daemon.stop()
        _reset(writer)
        await daemon.serve(sw)
        await daemon.until(lambda port: port["line_settings"]["baudrate"] == 9600)
        assert not (await daemon.port())["clients"]


_WILL_COM_PORT = bytes((255, 251, 44))
_BAUDRATE_19200 = bytes((255, 250, 44, 1)) + (19200).to_bytes(4, "big") + bytes((255, 240))


async def test_a_change_of_the_line_waits_for_what_was_sent_before_the_restart(
    adapter: Adapter,
) -> None:
    sw = entry(device=str(adapter.path), protocol="rfc2217")
    async with kept(sw) as daemon:
        _, writer = await daemon.connect(sw)
        data = b"x" * 60000
        writer.write(_WILL_COM_PORT + data)
        await daemon.until(lambda port: port["clients"][0]["received"] >= len(data))
        await daemon.restart()
        writer.write(_BAUDRATE_19200)
        received = len(os.read(adapter.far, 4096))  # the rest is on its way, and not yet there
        port = await daemon.port()
        assert port["counters"]["to_device"] < len(data)
        assert port["line_settings"]["baudrate"] == 9600
        await adapter.receive(len(data) - received)
        await daemon.until(lambda port: port["line_settings"]["baudrate"] == 19200)
        writer.close()


@pytest.mark.parametrize("loop", LOOPS)
async def test_nobody_who_connects_at_the_moment_of_the_stop_is_cut_off(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=100)
    async with kept(sw, loop=loop) as daemon, contextlib.AsyncExitStack() as stack:
        stopping = None
        clients = []
        for number in range(60):
            sock = socket.create_connection(("127.0.0.1", tcp_port(sw)))
            stack.callback(sock.close)
            sock.setblocking(False)
            sock.sendall(b"y")
            clients.append(sock)
            if number == 30:
                stopping = asyncio.create_task(daemon.stop())
                await asyncio.sleep(0)
        assert stopping
        await stopping
        await daemon.serve(sw)
        assert await adapter.receive(60) == b"y" * 60
        await adapter.send(b"z")
        for sock in clients:
            assert await asyncio.get_running_loop().sock_recv(sock, 1) == b"z"


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_port_that_has_just_connected_keeps_its_connection(
    loop: str, adapter: Adapter
) -> None:
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted.put((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    place = "{}:{}".format(*server.sockets[0].getsockname())
    sw = {"name": "sw", "device": str(adapter.path), "connect": place}
    async with kept(sw, loop=loop) as daemon:
        for _ in range(5):
            _, writer = await accepted.get()
            await daemon.restart()
            writer.close()
    server.close()


@pytest.mark.parametrize(
    "change",
    [
        {"line": {"settings": {}, "dtr": True, "rts": True}},
        {"counters": {"of_a_newer_version": 1}},
        {"queue": [[7, "x"]]},
        {"queue": [[0]]},
        {"written": "many"},
        {"clients": [{"connection": "0.client0", "connected_at": "x", "active_at": None}]},
        {"clients": None},
        {"listener": []},
        {"tty": "0.listener"},
    ],
    ids=repr,
)
async def test_a_state_of_the_wrong_kind_keeps_no_port_from_its_service(
    change: dict[str, Any], adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        _, old = await daemon.connect(sw)
        await daemon.stop()
        state = _state(daemon)
        state["sw"] |= change
        os.ftruncate(daemon.store["state"], 0)
        os.pwrite(daemon.store["state"], json.dumps(state).encode(), 0)
        await daemon.serve(sw)
        assert not daemon.ended
        old.close()
        await daemon.until(lambda port: not port["clients"])
        _, writer = await daemon.connect(sw)
        writer.write(b"anew")
        assert (await adapter.receive(4))[-4:] == b"anew"
        writer.close()
        daemon.forgiven = True


async def test_a_service_manager_that_does_not_answer_keeps_nothing(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        daemon.answers = False
        await daemon.stop()
        assert "systemd does not answer" in daemon.log
        await eventually(lambda: not daemon.store)
        assert await closed(reader)
        writer.close()


async def test_a_log_goes_on_in_the_middle_of_a_character(adapter: Adapter, tmp_path: Path) -> None:
    file = tmp_path / "log"
    sw = entry(device=str(adapter.path), **{"log.file": str(file), "log.input": True})
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        await adapter.send(b"caf\xc3")
        await receive(reader, 4)
        await daemon.restart()
        await adapter.send(b"\xa9\r")
        await receive(reader, 2)
        await daemon.restart()
        await adapter.send(b"\n")
        await receive(reader, 1)
        writer.close()
        await eventually(lambda: file.read_bytes().endswith("< café\n".encode()))
        assert file.read_bytes().count(b"\n") == 1


async def test_idle_seconds_before_a_restart_count(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path), idle_timeout=2)
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(1.2)
        await daemon.restart()
        assert await closed(reader)
        assert asyncio.get_running_loop().time() - began < 2.8
        writer.close()


@pytest.mark.parametrize("loop", LOOPS)
async def test_who_has_finished_gets_what_the_device_answers_during_a_long_restart(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw, loop=loop) as daemon:
        reader, writer = await daemon.connect(sw)
        writer.write(b"question")
        writer.write_eof()
        assert await adapter.receive(8) == b"question"
        await asyncio.sleep(0.1)
        await daemon.stop()
        await adapter.send(b"answer")
        await asyncio.sleep(1.1)
        await daemon.serve(sw)
        assert await receive(reader, 6) == b"answer"
        assert await closed(reader)
        writer.close()


@pytest.mark.parametrize("loop", LOOPS)
async def test_what_was_said_during_a_restart_counts_before_idle_seconds(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), idle_timeout=2)
    async with kept(sw, loop=loop) as daemon:
        reader, writer = await daemon.connect(sw)
        await daemon.stop()
        await asyncio.sleep(1)
        await adapter.send(b"x")
        await asyncio.sleep(1.2)
        await daemon.serve(sw)
        assert await receive(reader, 1) == b"x"
        await asyncio.sleep(1)
        assert (await daemon.port())["clients"]
        writer.close()


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_client_that_takes_nothing_does_not_keep_devices_from_being_read(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    data = bytes(7 * 2**20)
    async with kept(sw, loop=loop) as daemon:
        lazy = socket.create_connection(("127.0.0.1", tcp_port(sw)))
        reader, writer = await daemon.connect(sw)
        reading = asyncio.create_task(receive(reader, len(data)))
        await adapter.send(data)
        await reading
        began = asyncio.get_running_loop().time()
        await daemon.stop()
        assert asyncio.get_running_loop().time() - began < 1.5
        lazy.close()
        writer.close()


async def test_clients_are_told_what_has_changed_during_the_restart(adapter: Adapter) -> None:
    sw = entry(device=str(adapter.path), protocol="telnet", sharing="observed")
    async with kept(sw) as daemon:
        _, first = await daemon.connect(sw)
        reader, writer = await daemon.connect(sw)
        await daemon.stop()
        adapter.unplug()
        _reset(first)
        await daemon.serve(sw)
        async with asyncio.timeout(TIMEOUT):
            await reader.readuntil(b"sw: the device has gone]")
            await reader.readuntil(b"sw: you write now]")
        await daemon.stop()
        adapter.plug()
        await daemon.serve(sw)
        async with asyncio.timeout(TIMEOUT):
            await reader.readuntil(b"sw: the device is here]")
        writer.close()


async def test_a_log_that_a_crash_cut_off_is_not_continued_in_that_line(
    adapter: Adapter, tmp_path: Path
) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"< cut off by a power c")
    keys = {"log.file": str(file), "log.timestamps": False, "log.input": True}
    sw = entry(device=str(adapter.path), **keys)
    async with kept(sw) as daemon:
        reader, writer = await daemon.connect(sw)
        await daemon.restart()
        await adapter.send(b"hello\n")
        await receive(reader, 6)
        writer.close()
        await eventually(lambda: file.read_bytes().endswith(b"hello\n"))
        assert file.read_bytes() == b"< cut off by a power c\n< hello\n"


@pytest.mark.parametrize("loop", LOOPS)
async def test_the_last_words_of_who_resets_the_connection_during_the_restart_arrive(
    loop: str, adapter: Adapter
) -> None:
    sw = entry(device=str(adapter.path))
    async with kept(sw, loop=loop) as daemon:
        _, writer = await daemon.connect(sw)
        name = "{}:{}".format(*writer.get_extra_info("sockname"))
        await daemon.stop()
        writer.write(b"last words")
        await asyncio.sleep(0.1)
        _reset(writer)
        await asyncio.sleep(0.1)
        await daemon.serve(sw)
        assert await adapter.receive(10) == b"last words"
        await daemon.until(lambda port: not port["clients"])
        assert f"client {name} left" in daemon.log


async def test_the_names_of_as_many_descriptors_as_systemd_keeps_fit_the_environment(
    adapter: Adapter,
) -> None:
    sw = entry(name="n" * 64, device=str(adapter.path), sharing="shared", max_clients=1024)
    async with kept(sw) as daemon:
        _, writer = await daemon.connect(sw)
        await daemon.stop()
        longest = max(len(name) for name in daemon.store) + len("123" + "123" + ":")
        assert 4096 * longest < 128 * 1024  # execve(2): MAX_ARG_STRLEN
        writer.close()


@pytest.mark.parametrize("loop", LOOPS)
async def test_clients_of_all_listeners_stay_over_a_restart(loop: str, adapter: Adapter) -> None:
    listen = [
        f"127.0.0.1:{free_tcp_port()}",
        {"at": f"127.0.0.1:{free_tcp_port()}", "protocol": "telnet"},
        {"at": f"127.0.0.1:{free_tcp_port()}", "access": "watch"},
    ]
    entry = {"name": "sw", "device": str(adapter.path), "listen": listen, "sharing": "shared"}
    ports = [int(str(one["at"] if isinstance(one, dict) else one).split(":")[1]) for one in listen]
    async with kept(entry, loop=loop) as daemon:
        streams = [await asyncio.open_connection("127.0.0.1", number) for number in ports]
        await daemon.until(lambda port: len(port["clients"]) == 3)
        await daemon.restart()
        for _, writer in streams[:2]:
            writer.write(b"hi")
            assert await adapter.receive(2) == b"hi"
        streams[2][1].write(b"no")
        await adapter.send(b"\xffdone")
        async with asyncio.timeout(TIMEOUT):
            assert await streams[0][0].readexactly(5) == b"\xffdone"
            assert await streams[1][0].readuntil(b"\xff\xffdone")
            assert await streams[2][0].readexactly(5) == b"\xffdone"
        port = await daemon.port()
        assert [each["writes"] for each in port["clients"]] == [True, True, False]
        assert port["counters"]["to_device"] == 4
        for number, (_, writer) in zip(ports, streams, strict=True):
            writer.close()
            _, again = await asyncio.open_connection("127.0.0.1", number)
            again.close()
