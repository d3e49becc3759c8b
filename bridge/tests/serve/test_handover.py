"""A restart, seen by clients and devices; a stand-in for systemd keeps what the daemon leaves."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from conftest import (
    TIMEOUT,
    Adapter,
    MakeAdapter,
    Remote,
    TcpClient,
    free_tcp_port,
    on_each_loop,
    until,
)
from kept import Kept, StartKept
from person import Framed, at_terminal
from process import entry, tcp_port
from ttybridge.protocol import console as frames


@on_each_loop
async def test_a_client_in_mid_stream_notices_nothing_of_three_restarts(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    there, back = random.Random(1).randbytes(2**20), random.Random(2).randbytes(2**20)
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    client.write(there)
    at_device = asyncio.create_task(adapter.receive(len(there)))
    at_client = asyncio.create_task(client.receive(len(back)))
    sending = asyncio.create_task(adapter.send(back))
    for _ in range(3):
        await asyncio.sleep(0.05)
        await daemon.restart()
    assert await at_device == there
    assert await at_client == back
    await sending


@on_each_loop
async def test_who_connects_while_no_daemon_runs_is_served_by_the_next(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    await daemon.stop()
    client = await daemon.open(sw)
    client.write(b"hello")
    await daemon.serve(sw)
    assert await adapter.receive(5) == b"hello"


async def test_what_the_device_says_meanwhile_is_not_lost(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await daemon.stop()
    await adapter.send(b"a word")
    await daemon.serve(sw)
    assert await client.receive(6) == b"a word"


async def test_telnet_is_not_negotiated_again_and_goes_on_in_the_middle_of_a_command(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), protocol="telnet")
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await client.receive(15)  # WILL BINARY, ECHO, SGA, DO SGA, BINARY
    client.write(bytes((255, 253, 0, 255, 251, 0)) + b"a" + bytes((255,)))
    assert await adapter.receive(1) == b"a"
    await daemon.restart()
    client.write(bytes((255,)) + b"b")  # the second half of an escaped 255
    assert await adapter.receive(2) == b"\xffb"
    await adapter.send(b"\r\xff")
    # With BINARY agreed on, CR stands alone.
    assert await client.receive(3) == b"\r\xff\xff"


async def test_the_line_stays_as_an_rfc2217_client_has_set_it_until_that_leaves(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), protocol="rfc2217")
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    client.write(bytes((255, 251, 44, 255, 250, 44, 1)) + (19200).to_bytes(4, "big"))
    client.write(bytes((255, 240)))
    await daemon.has_baudrate(19200)
    await daemon.restart()
    assert (await daemon.port())["line_settings"]["baudrate"] == 19200
    client.close()
    await daemon.has_baudrate(9600)


async def test_counters_times_and_replay_go_on(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", replay=100)
    daemon = await kept(sw)
    mine = await daemon.connect(sw)
    mine.write(b"there")
    await adapter.receive(5)
    await adapter.send(b"and back")
    await mine.receive(8)
    await asyncio.sleep(1)
    await daemon.restart()
    port = await daemon.port()
    assert port["counters"]["from_device"] == 8
    assert port["counters"]["to_device"] == 5
    (client,) = port["clients"]
    assert (client["received"], client["sent"]) == (5, 8)
    assert client["connected_for"] >= 1
    other = await daemon.connect(sw)
    assert await other.receive(8) == b"and back"


async def test_of_observers_the_same_one_writes(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path), sharing="observed")
    daemon = await kept(sw)
    clients = [await daemon.connect(sw) for _ in range(4)]
    await daemon.restart()
    writes = [each["writes"] for each in (await daemon.port())["clients"]]
    assert writes == [True, False, False, False]
    for number, client in enumerate(clients):
        client.write(b"%d" % number)
    assert await adapter.receive(1) == b"0"
    await adapter.send(b"for all")
    for client in clients:
        assert await client.receive(7) == b"for all"


async def test_who_waits_to_replace_a_client_is_closed_and_that_one_goes_on(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), sharing="replace")
    daemon = await kept(sw, constants={"CANDIDATE_SECONDS": 2 * TIMEOUT})
    client, waiting = await daemon.connect(sw), await daemon.connect(sw)
    await daemon.restart()
    assert await waiting.is_closed()
    client.write(b"x")
    assert await adapter.receive(1) == b"x"
    await adapter.send(b"y")
    assert await client.receive(1) == b"y"


async def test_a_client_that_has_said_nothing_before_a_restart_is_judged_after_it(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await daemon.restart()
    client.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await client.is_closed()
    assert "refused: it begins like an HTTP request" in daemon.log
    other = await daemon.connect(sw)
    other.write(b"mine")
    assert await adapter.receive(4) == b"mine"


async def test_what_waits_for_an_absent_device_is_still_written(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    adapter.unplug()
    await daemon.has_no_device()
    client.write(b"later")
    await daemon.has_taken(5)
    await daemon.restart()
    adapter.plug()
    assert await adapter.receive(5) == b"later"
    assert (await daemon.port())["counters"]["reconnects"] == 1


@on_each_loop
async def test_a_daemon_that_is_full_hands_over_all_the_same(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=1024)
    daemon = await kept(sw)
    limit = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (64, limit[1]))
    clients = [daemon.socket_to(sw) for _ in range(64)]
    assert b"takes no more clients" in await asyncio.to_thread(clients[-1].recv, 200)
    inside = len((await daemon.port())["clients"])
    await daemon.restart()
    await daemon.has_clients(inside)
    await adapter.send(b"x")
    heard = await asyncio.gather(
        *(asyncio.to_thread(client.recv, 1) for client in clients[:inside])
    )
    assert heard == [b"x"] * inside


async def test_what_waits_for_an_absent_device_survives_however_much_it_is(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    adapter.unplug()
    await daemon.has_no_device()
    data = os.urandom(4_000_000)
    sending = asyncio.create_task(client.send(data))
    await daemon.has_taken(65536)
    for restarts in range(1, 3):
        await daemon.restart()
        (there,) = (await daemon.port())["clients"]
        # uvloop reads a client once before it can be told not to.
        assert there["received"] <= 65536 + (1 + restarts) * 256 * 1024
    adapter.plug()
    assert await adapter.receive(len(data)) == data
    await sending


async def test_a_released_device_stays_released_and_comes_back_in_time(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), protocol="telnet")
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await daemon.say(b'{"command": "release", "port": "sw", "seconds": 600}\n')
    before = (await daemon.port())["device"]["released"]
    await daemon.restart()
    port = await daemon.port()
    assert (port["device"]["present"], port["device"]["released"]) == (False, before)
    assert len(port["clients"]) == 1
    await daemon.say(b'{"command": "release", "port": "sw", "seconds": 1}\n')
    await daemon.restart()
    await daemon.has_device()
    assert "device taken back: its time is over" in daemon.log
    client.write(b"x")
    assert await adapter.receive(1) == b"x"


async def test_the_lock_file_is_that_of_the_process_that_serves(
    adapter: Adapter, kept: StartKept
) -> None:
    daemon = await kept(entry(device=str(adapter.path)))
    (lock,) = daemon.locks.iterdir()
    assert lock.read_text() == f"{daemon.pid:10d}\n"
    await daemon.stop()
    assert not lock.exists()
    await daemon.serve(*daemon.entries)
    assert lock.read_text() == f"{daemon.pid:10d}\n"
    await daemon.end(SIGKILL)
    assert lock.exists()
    await daemon.serve(*daemon.entries)
    assert lock.read_text() == f"{daemon.pid:10d}\n"


async def test_a_device_that_was_changed_for_another_meanwhile_is_opened_anew(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await daemon.stop()
    far, adapter.far = adapter.far, -1
    adapter.path.unlink()
    adapter.plug()
    await daemon.serve(sw)
    await daemon.has_device()
    await adapter.send(b"new")
    assert await client.receive(3) == b"new"
    os.close(far)


@on_each_loop
async def test_a_client_that_takes_nothing_misses_nothing(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    data = random.Random(3).randbytes(7 * 2**20)
    daemon = await kept(sw)
    lazy = daemon.socket_to(sw)
    client = await daemon.connect(sw)
    reading = asyncio.create_task(client.receive(len(data)))
    await adapter.send(data)
    assert await reading == data
    await daemon.restart()
    await daemon.restart()
    await adapter.send(b"the end")
    late = await TcpClient.connect(sock=lazy)
    assert await late.receive(len(data) + 7) == data + b"the end"
    late.close()


async def test_a_restart_with_changed_entries_closes_what_a_reload_would(
    adapter: Adapter, tmp_path: Path, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    other = entry(device=str(tmp_path / "absent"), name="other")
    gone = entry(device=str(tmp_path / "absent2"), name="gone")
    daemon = await kept(sw, other, gone)
    client = await daemon.connect(sw)
    other_client = await daemon.connect(other)
    gone_client = await daemon.connect(gone)
    await daemon.stop()
    await daemon.serve(
        {**sw, "baudrate": 115200, "sharing": "shared"},
        {**other, "device": str(tmp_path / "another")},
    )
    assert await other_client.is_closed()
    assert await gone_client.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", tcp_port(gone))
    await daemon.has_baudrate(115200)
    await daemon.connect(sw)
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"
    again = await daemon.connect(other)
    assert not again.reader.at_eof()


async def test_a_stop_for_good_closes_all(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    client.write(b"last words")
    await daemon.stop()
    assert await adapter.receive(10) == b"last words"
    daemon.forget()
    assert await client.is_closed()


async def test_a_port_that_connects_keeps_its_connection(
    adapter: Adapter, remote: Remote, kept: StartKept
) -> None:
    sw = {"name": "sw", "device": str(adapter.path), "connect": remote.place}
    daemon = await kept(sw, constants={"RETRY_SECONDS": 0.1})
    first = await remote.accept()
    await daemon.restart()
    await adapter.send(b"still")
    assert await first.receive(5) == b"still"
    await asyncio.sleep(0.5)
    assert remote.accepted.empty()
    first.close()
    second = await remote.accept()
    await daemon.has_clients(1)
    await adapter.send(b"next")
    assert await second.receive(4) == b"next"


async def test_a_state_that_cannot_be_read_costs_the_clients_and_nothing_else(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await daemon.stop()
    os.ftruncate(daemon.store["state"], 3)
    await daemon.serve(sw)
    assert await client.is_closed()
    assert "hand-over failed, clients are disconnected" in daemon.log
    other = await daemon.connect(sw)
    other.write(b"next")
    assert await adapter.receive(4) == b"next"


async def _more_than_it_takes(daemon: Kept, sw: dict[str, Any]) -> tuple[TcpClient, bytes]:
    """A client that has sent a device more than that takes while nobody reads it."""
    client = await daemon.connect(sw)
    data = bytes(range(1, 251)) * 240
    client.write(data)
    await daemon.has_taken(len(data), sw["name"])
    return client, data


@on_each_loop
async def test_a_port_does_nothing_that_the_next_process_does_again_while_another_is_slow(
    adapter: Adapter, make_adapter: MakeAdapter, kept: StartKept
) -> None:
    slow_adapter = make_adapter("slow")
    sw = entry(device=str(adapter.path))
    slow = entry(device=str(slow_adapter.path), name="slow")
    daemon = await kept(sw, slow, constants={"DRAIN_SECONDS": TIMEOUT})
    _, data = await _more_than_it_takes(daemon, sw)
    await _more_than_it_takes(daemon, slow)
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
    assert adapter.read() == b""


@on_each_loop
async def test_a_client_that_ends_while_another_port_is_slow_costs_nobody_else(
    adapter: Adapter, make_adapter: MakeAdapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    slow = entry(device=str(make_adapter("slow").path), name="slow")
    daemon = await kept(sw, slow)
    await _more_than_it_takes(daemon, slow)
    client, ending = await daemon.connect(sw), await daemon.connect(sw)
    ending.finish()
    await asyncio.sleep(0.2)
    await daemon.restart()
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"


@on_each_loop
async def test_a_stuck_device_keeps_the_clients_of_other_ports_waiting_for_nothing(
    adapter: Adapter, make_adapter: MakeAdapter, kept: StartKept
) -> None:
    stuck_adapter = make_adapter("stuck")
    sw = entry(device=str(adapter.path))
    stuck = entry(device=str(stuck_adapter.path), name="stuck")
    waits = dict.fromkeys(("DRAIN_SECONDS", "BLOCKED_SECONDS"), 2 * TIMEOUT)
    daemon = await kept(sw, stuck, constants=waits)
    client = await daemon.connect(sw)
    _, data = await _more_than_it_takes(daemon, stuck)
    stopping = asyncio.create_task(daemon.stop())
    await daemon.logs("stopping")
    for _ in range(5):
        await asyncio.sleep(0.1)
        await client.send(b"x")
        assert await adapter.receive(1) == b"x"
    assert not daemon.ended
    await stuck_adapter.receive(len(data))
    await stopping


async def test_a_device_that_is_lost_after_a_restart_comes_back_though_a_sender_has_left(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client, _ = await _more_than_it_takes(daemon, sw)
    client.reset()
    await daemon.has_clients(0)
    await daemon.restart()
    adapter.unplug()
    await daemon.has_no_device()
    adapter.plug()
    await daemon.has_device()
    assert "their client left while the device was away" in daemon.log


@on_each_loop
async def test_what_waits_survives_a_device_that_is_plugged_anew_during_the_restart(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    _, data = await _more_than_it_takes(daemon, sw)
    await daemon.stop()
    written = _state(daemon)["sw"]["written"]
    assert written < len(data)
    os.close(adapter.far)  # hung up, but the same name and number
    adapter.far = -1
    await daemon.serve(sw)
    await daemon.has_no_device()
    adapter.path.unlink()
    os.close(adapter.near)
    adapter.plug()
    assert await adapter.receive(len(data) - written) == data[written:]


def _state(daemon: Kept) -> Any:
    return json.loads(os.pread(daemon.store["state"], 2**24, 0))


@on_each_loop
async def test_the_line_of_an_rfc2217_client_that_vanishes_in_the_restart_is_restored(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), protocol="rfc2217")
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    client.write(_WILL_COM_PORT + _BAUDRATE_19200)
    await daemon.has_baudrate(19200)
    await daemon.stop()
    client.reset()
    await daemon.serve(sw)
    await daemon.has_baudrate(9600)
    assert not (await daemon.port())["clients"]


_WILL_COM_PORT = bytes((255, 251, 44))
_BAUDRATE_19200 = bytes((255, 250, 44, 1)) + (19200).to_bytes(4, "big") + bytes((255, 240))


async def test_a_change_of_the_line_waits_for_what_was_sent_before_the_restart(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), protocol="rfc2217")
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    data = b"x" * 60000
    client.write(_WILL_COM_PORT + data)
    await daemon.has_taken(len(data))
    daemon.constants = {"BLOCKED_SECONDS": TIMEOUT}  # else it would wait for two seconds only
    await daemon.restart()
    client.write(_BAUDRATE_19200)
    received = len(os.read(adapter.far, 4096))  # the rest is on its way, and not yet there
    port = await daemon.port()
    assert port["counters"]["to_device"] < len(data)
    assert port["line_settings"]["baudrate"] == 9600
    await adapter.receive(len(data) - received)
    await daemon.has_baudrate(19200)


@on_each_loop
async def test_nobody_who_connects_at_the_moment_of_the_stop_is_cut_off(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared", max_clients=100)
    daemon = await kept(sw)
    stopping = None
    clients = []
    for number in range(60):
        clients.append(daemon.socket_to(sw))
        clients[-1].sendall(b"y")
        if number == 30:
            stopping = asyncio.create_task(daemon.stop())
            await asyncio.sleep(0)
    assert stopping
    await stopping
    await daemon.serve(sw)
    assert await adapter.receive(60) == b"y" * 60
    await adapter.send(b"z")
    for client in clients:
        assert await asyncio.to_thread(client.recv, 1) == b"z"


@on_each_loop
async def test_a_port_that_has_just_connected_keeps_its_connection(
    adapter: Adapter, remote: Remote, kept: StartKept
) -> None:
    sw = {"name": "sw", "device": str(adapter.path), "connect": remote.place}
    daemon = await kept(sw, constants={"RETRY_SECONDS": 0.1})
    for _ in range(5):
        client = await remote.accept()
        await daemon.restart()
        client.close()


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
    change: dict[str, Any], adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    old = await daemon.connect(sw)
    await daemon.stop()
    state = _state(daemon)
    state["sw"] |= change
    os.ftruncate(daemon.store["state"], 0)
    os.pwrite(daemon.store["state"], json.dumps(state).encode(), 0)
    await daemon.serve(sw)
    assert not daemon.ended
    old.close()
    await daemon.has_clients(0)
    client = await daemon.connect(sw)
    client.write(b"next")
    assert (await adapter.receive(4))[-4:] == b"next"
    daemon.forgiven = True


async def test_a_service_manager_that_does_not_answer_may_have_kept_all(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw, constants={"BARRIER_SECONDS": 0.5})
    client = await daemon.connect(sw)
    daemon.answers = False
    await daemon.stop()
    assert "systemd does not answer" in daemon.log
    daemon.answers = True
    await daemon.serve(sw)
    client.write(b"still here")
    assert await adapter.receive(10) == b"still here"


async def test_a_log_goes_on_in_the_middle_of_a_character(
    adapter: Adapter, tmp_path: Path, kept: StartKept
) -> None:
    file = tmp_path / "log"
    sw = entry(device=str(adapter.path), **{"log.file": str(file), "log.input": True})
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await adapter.send(b"caf\xc3")
    await client.receive(4)
    await daemon.restart()
    await adapter.send(b"\xa9\r")
    await client.receive(2)
    await daemon.restart()
    await adapter.send(b"\n")
    await client.receive(1)
    await until(
        lambda: file.read_bytes().endswith("< café\n".encode()), "the log ends with the line"
    )
    assert file.read_bytes().count(b"\n") == 1


async def test_idle_seconds_before_a_restart_count(
    adapter: Adapter, make_adapter: MakeAdapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), idle_timeout=1)
    other = entry(name="other", device=str(make_adapter("other").path), idle_timeout=1)
    daemon = await kept(sw, other)
    client = await daemon.connect(sw)
    await asyncio.sleep(0.6)
    await daemon.restart()
    later = await daemon.connect(other)
    assert await client.is_closed()
    assert await later.is_closed()
    assert _order(daemon, client, later) == [client.name, later.name]


def _order(daemon: Kept, *clients: TcpClient) -> list[str]:
    """The names of clients in the order in which they were closed for being idle."""
    at = {client.name: daemon.log.index(f"{client.name} closed after") for client in clients}
    return sorted(at, key=lambda name: at[name])


@on_each_loop
async def test_who_has_finished_gets_what_the_device_answers_during_a_long_restart(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    client.write(b"question")
    client.finish()
    assert await adapter.receive(8) == b"question"
    await asyncio.sleep(0.1)
    await daemon.stop()
    await adapter.send(b"answer")
    await asyncio.sleep(1.1)
    await daemon.serve(sw)
    assert await client.receive(6) == b"answer"
    assert await client.is_closed()


@on_each_loop
async def test_what_was_said_during_a_restart_counts_before_idle_seconds(
    adapter: Adapter, make_adapter: MakeAdapter, kept: StartKept
) -> None:
    other_adapter = make_adapter("other")
    sw = entry(device=str(adapter.path), idle_timeout=2)
    other = entry(name="other", device=str(other_adapter.path), idle_timeout=1)
    daemon = await kept(sw, other)
    client, sooner = await daemon.connect(sw), await daemon.connect(other)
    await daemon.stop()
    await adapter.send(b"x")
    await other_adapter.send(b"x")
    await asyncio.sleep(2.2)  # both are idle for longer than they may
    await daemon.serve(sw, other)
    assert await client.receive(1) == b"x"
    assert await client.is_closed()
    assert _order(daemon, client, sooner) == [sooner.name, client.name]


@on_each_loop
async def test_a_client_that_takes_nothing_does_not_keep_devices_from_being_read(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), sharing="shared")
    data = bytes(7 * 2**20)
    # It would never end.
    waits = dict.fromkeys(("DRAIN_SECONDS", "BLOCKED_SECONDS"), 2 * TIMEOUT)
    daemon = await kept(sw, constants=waits)
    daemon.socket_to(sw)
    client = await daemon.connect(sw)
    reading = asyncio.create_task(client.receive(len(data)))
    await adapter.send(data)
    await reading
    await daemon.stop()


async def test_clients_are_told_what_has_changed_during_the_restart(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path), protocol="telnet", sharing="observed")
    daemon = await kept(sw)
    first = await daemon.connect(sw)
    client = await daemon.connect(sw)
    await daemon.stop()
    adapter.unplug()
    first.reset()
    await daemon.serve(sw)
    await client.hear(b"sw: the device has gone]")
    await client.hear(b"sw: you write now]")
    await daemon.stop()
    adapter.plug()
    await daemon.serve(sw)
    await client.hear(b"sw: the device is here]")


async def test_a_log_that_a_crash_cut_off_is_not_continued_in_that_line(
    adapter: Adapter, tmp_path: Path, kept: StartKept
) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"< cut off by a power c")
    keys = {"log.file": str(file), "log.timestamps": False, "log.input": True}
    sw = entry(device=str(adapter.path), **keys)
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await daemon.restart()
    await adapter.send(b"hello\n")
    await client.receive(6)
    await until(lambda: file.read_bytes().endswith(b"hello\n"), "the log ends with the line")
    assert file.read_bytes() == b"< cut off by a power c\n< hello\n"


@on_each_loop
async def test_the_last_words_of_who_resets_the_connection_during_the_restart_arrive(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(device=str(adapter.path))
    daemon = await kept(sw)
    client = await daemon.connect(sw)
    await daemon.stop()
    client.write(b"last words")
    await asyncio.sleep(0.1)
    client.reset()
    await asyncio.sleep(0.1)
    await daemon.serve(sw)
    assert await adapter.receive(10) == b"last words"
    await daemon.has_clients(0)
    assert f"client {client.name} left" in daemon.log


async def test_the_names_of_as_many_descriptors_as_systemd_keeps_fit_the_environment(
    adapter: Adapter, kept: StartKept
) -> None:
    sw = entry(name="n" * 64, device=str(adapter.path), sharing="shared", max_clients=1024)
    daemon = await kept(sw)
    await daemon.connect(sw)
    await daemon.stop()
    assert {name[0] for name in daemon.store} == {"c", "l", "r", "s", "t"}
    # However often a client comes in a year, and a little more.
    longest = len("c" + f"{10**9:x}" + ":")
    assert 4096 * longest < 128 * 1024  # execve(2): MAX_ARG_STRLEN


@on_each_loop
async def test_clients_of_all_listeners_stay_over_a_restart(
    adapter: Adapter, kept: StartKept
) -> None:
    places = [f"127.0.0.1:{free_tcp_port()}" for _ in range(3)]
    listen = [
        places[0],
        {"at": places[1], "protocol": "telnet"},
        {"at": places[2], "access": "watch"},
    ]
    sw = {"name": "sw", "device": str(adapter.path), "listen": listen, "sharing": "shared"}
    daemon = await kept(sw)
    raw, telnet, watcher = [await daemon.open({"listen": place}) for place in places]
    await daemon.has_clients(3)
    await daemon.restart()
    for client in (raw, telnet):
        client.write(b"hi")
        assert await adapter.receive(2) == b"hi"
    watcher.write(b"no")
    await adapter.send(b"\xffdone")
    assert await raw.receive(5) == b"\xffdone"
    assert await telnet.hear(b"\xff\xffdone")
    assert await watcher.receive(5) == b"\xffdone"
    port = await daemon.port()
    assert [each["writes"] for each in port["clients"]] == [True, True, False]
    assert port["counters"]["to_device"] == 4
    for place in places:
        await daemon.open({"listen": place})


@on_each_loop
async def test_a_person_notices_nothing_of_a_restart(adapter: Adapter, kept: StartKept) -> None:
    sw = entry(device=str(adapter.path), protocol="rfc2217")
    daemon = await kept(sw)
    with at_terminal("sw", runtime=daemon.runtime, SSH_CONNECTION="192.0.2.7 1 2 3") as person:
        await person.sees("helps")
        await daemon.restart()
        person.types("typed")
        assert await adapter.receive(5) == b"typed"
        await adapter.send(b"said")
        await person.sees("]\r\nsaid")
        client = (await daemon.port())["clients"][0]
        assert [client[key] for key in ("address", "by", "from")] == ["root:1", "ssh", "192.0.2.7"]
        person.types("\x1dq")
        assert await person.ends() == 0


async def test_half_a_frame_and_a_watcher_go_over_a_restart(
    adapter: Adapter, kept: StartKept
) -> None:
    daemon = await kept(entry(device=str(adapter.path)))
    writer = await Framed.attach(daemon, "sw")
    watcher = await Framed.attach(daemon, "sw", watch=True)
    whole = frames.frame(frames.DATA, b"0123456789")
    writer.write(whole[:9])
    watcher.types(b"lost")
    await daemon.has_taken(9)
    await daemon.restart()
    writer.write(whole[9:])
    watcher.types(b"lost")
    assert await adapter.receive(10) == b"0123456789"
    assert [client["writes"] for client in (await daemon.port())["clients"]] == [True, False]
    await adapter.send(b"said")
    await writer.gets(b"said")
    await watcher.gets(b"said")
    writer.close()
    await daemon.has_clients(1)
    watcher.asks(frames.WRITE)
    await daemon.until(lambda port: port["clients"][0]["writes"], "the watcher writes")
    watcher.close()
