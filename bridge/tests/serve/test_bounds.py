"""What all clients together may hold in memory, and what a refusal says where many are in."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import pytest

from conftest import Adapter, MakeAdapter, MakePort, Serve, on_each_loop
from process import StartDaemon, entry
from ttybridge.serve import bounds
from ttybridge.serve.bounds import Backlogs

MIB = 1024 * 1024


@dataclass(eq=False)
class Client:
    """A client that is so many bytes behind."""

    backlog: int
    together: int | None = None
    """What it was told when it was closed."""

    def close_as_last(self, together: int) -> None:
        self.together = together


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_BEHIND", 100)


@pytest.mark.usefixtures("limit")
def test_who_is_furthest_behind_is_closed() -> None:
    clients = [Client(30), Client(50), Client(40)]
    backlogs = Backlogs()
    for client in clients:
        backlogs.note(client, client.backlog)
    assert [client.together for client in clients] == [None, 120, None]
    backlogs.note(clients[1], 0)  # its connection ends
    backlogs.note(clients[0], 60)
    assert clients[0].together is None


@pytest.mark.usefixtures("limit")
def test_nobody_is_closed_for_an_old_figure() -> None:
    slow, other = Client(90), Client(50)
    backlogs = Backlogs()
    backlogs.note(slow, 90)
    slow.backlog = 10  # it has read since
    backlogs.note(other, 50)
    assert slow.together is other.together is None


@pytest.mark.usefixtures("limit")
def test_who_takes_all_or_leaves_counts_no_more() -> None:
    backlogs = Backlogs()
    for _ in range(10):
        client = Client(90)
        backlogs.note(client, 90)
        backlogs.note(client, 0)
        assert client.together is None


@on_each_loop
async def test_clients_that_read_nothing_share_one_bound(
    make_adapter: MakeAdapter, daemon: StartDaemon
) -> None:
    adapters = [make_adapter(f"tty{number}") for number in range(2)]
    ports = [
        entry(name=f"p{number}", device=str(one.path), sharing="shared", max_clients=11)
        for number, one in enumerate(adapters)
    ]
    process = await daemon(*ports, constants={"MOST_BEHIND": 16 * MIB})
    readers = [await process.connect(port) for port in ports]
    for port in ports:
        for _ in range(10):
            process.socket_to(port)
        await process.has_clients(11, port["name"])
    before = process.memory()
    for one, reader in zip(adapters, readers, strict=True):
        data = os.urandom(12 * MIB)
        sending = asyncio.create_task(one.send(data))
        assert await reader.receive(len(data)) == data
        await sending
    # Each of the 20 alone could be 8 MiB behind.
    assert process.memory() - before < 60 * 1024
    counters = [(await process.port(port["name"]))["counters"] for port in ports]
    closed = [each["closed_slow_clients"] for each in counters]
    assert sum(closed) > 10
    assert "bytes behind, and this one most: " in process.log


@on_each_loop
async def test_what_waits_for_all_devices_shares_one_bound(
    make_adapter: MakeAdapter, daemon: StartDaemon
) -> None:
    adapters = [make_adapter(f"tty{number}") for number in range(8)]
    ports = [entry(name=f"p{number}", device=str(one.path)) for number, one in enumerate(adapters)]
    process = await daemon(*ports, constants={"MOST_AHEAD_OF_ALL": 4 * MIB})
    data = os.urandom(6 * MIB)
    clients = [process.socket_to(port) for port in ports]
    sending = [asyncio.create_task(asyncio.to_thread(one.sendall, data)) for one in clients]
    await asyncio.sleep(1)

    async def taken() -> int:
        ports = (await process.status())["ports"]
        return sum(one["received"] for port in ports for one in port["clients"])

    # Each of the 8 alone could wait with 8 MiB. The last read of each may be too much.
    assert 4 * MIB <= await taken() < 4 * MIB + 8 * MIB // 4 + MIB
    assert await asyncio.gather(*(one.receive(len(data)) for one in adapters)) == [data] * 8
    await asyncio.gather(*sending)


async def test_a_refusal_names_three_holders_and_counts_the_others(
    adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(sharing="shared", max_clients=5)
    bench = await serve(port)
    inside = [await bench.connect(port) for _ in range(5)]
    words = (await (await bench.connect(port)).rest()).decode()
    assert [client.name in words for client in inside] == [True] * 3 + [False] * 2
    assert words.endswith(" s) and 2 more\r\n")
