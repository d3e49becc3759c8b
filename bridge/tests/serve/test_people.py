"""People at a port, beside its TCP clients; sessions in frames, without the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Adapter, on_each_loop, until
from person import Framed
from process import StartDaemon, entry
from ttybridge.protocol import console as frames


@on_each_loop
async def test_who_takes_over_from_an_observed_client_writes_and_it_watches(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), sharing="observed", protocol="telnet")
    process = await daemon(sw)
    client = await process.connect(sw)
    person = await Framed.attach(process, "sw")
    assert f"you watch {client.name}, who writes".encode() in await person.hears(frames.NOTICE)
    person.asks(frames.TAKE_OVER)
    await client.hear("[ttybridge: sw: root:1 has taken over: you watch now]")
    client.write(b"lost")
    person.types(b"mine")
    assert await adapter.receive(4) == b"mine"
    person.asks(frames.WATCH)
    await client.hear("[ttybridge: sw: you write now]")
    client.write(b"again")
    assert await adapter.receive(5) == b"again"
    assert "sw: client root:1 takes over from" in process.log
    person.close()


async def test_nothing_of_what_a_replaced_person_has_sent_goes_out_later(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    first, second = (
        await Framed.attach(process, "sw"),
        await Framed.attach(process, "sw", watch=True),
    )
    for _ in range(20):
        first.types(bytes(50_000))
    await process.has_taken(1_000_000)
    second.asks(frames.TAKE_OVER)
    assert b"root:2 has taken over" in await first.hears(frames.NOTICE)
    second.types(b"SECOND")
    # A tty holds up to 64 KiB of what was written before.
    assert len(await adapter.receive_until(b"SECOND")) <= 65536
    assert "bytes of client root:1 are dropped: it watches now" in process.log
    first.close()
    second.close()


async def test_a_person_who_leaves_while_the_device_is_away_does_not_hold_the_port(
    daemon: StartDaemon,
) -> None:
    process = await daemon(entry(device="/nonexistent/tty"))
    person = await Framed.attach(process, "sw")
    for _ in range(4):
        person.types(bytes(50_000))
    await process.has_taken(65537)
    person.close()
    await process.has_clients(0)


@on_each_loop
async def test_who_has_left_is_gone_at_once_and_who_only_sends_no_more_is_not(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path), half_close_timeout=86_400))
    person = await Framed.attach(process, "sw")
    person.types(b"exit\r")
    person.close()
    await process.has_clients(0)
    assert await adapter.receive(5) == b"exit\r"
    person = await Framed.attach(process, "sw")
    person.finish()
    await adapter.send(b"answer")
    await person.gets(b"answer")
    await process.has_clients(1)
    person.close()


@pytest.mark.parametrize(("sharing", "most"), [("exclusive", 1), ("shared", 2)])
async def test_a_watcher_writes_once_there_is_room(
    sharing: str, most: int, adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path), sharing=sharing, max_clients=most))
    writers = [await Framed.attach(process, "sw") for _ in range(most)]
    watcher = await Framed.attach(process, "sw", watch=True)
    assert b"you watch" in await watcher.hears(frames.NOTICE)
    watcher.asks(frames.WRITE)
    assert b"in use by root:1 (for " in await watcher.hears(frames.NOTICE)
    writers.pop().close()
    await process.has_clients(most)
    watcher.asks(frames.WRITE)
    assert await watcher.hears(frames.NOTICE) == b"sw: you write now"
    watcher.types(b"x")
    assert await adapter.receive(1) == b"x"
    for each in (*writers, watcher):
        each.close()


async def test_only_so_many_people_may_watch(adapter: Adapter, daemon: StartDaemon) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    people = [await Framed.attach(process, "sw", watch=True) for _ in range(9)]
    client = await process.say(b'{"command": "console", "port": "sw", "watch": true}\n')
    assert b"port sw is in use by root:1 (for " in client
    for each in people:
        each.close()


async def test_requests_of_a_later_version_are_ignored_and_nonsense_ends_the_session(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    person = await Framed.attach(process, "sw")
    person.write(frames.frame(b"Z", b"what"))
    person.types(b"x")
    assert await adapter.receive(1) == b"x"
    person.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await person.is_closed()
    assert "sw: client root:1 closed: it sent something else than a frame" in process.log
    person.close()


@pytest.mark.parametrize("replay", ["x", -1, 1.5, True])
async def test_a_wrong_request_is_answered(replay: object, daemon: StartDaemon) -> None:
    process = await daemon(entry(device="/nonexistent/tty"))
    answer = await process.say(
        b'{"command": "console", "port": "sw", "replay": %s}\n'
        % (b'"x"' if replay == "x" else str(replay).lower().encode())
    )
    assert b"write a whole number of bytes" in answer


@pytest.mark.parametrize(
    ("sharing", "of_the_client"), [("shared", "> {client}: b"), ("replace", "> b")]
)
async def test_the_log_says_who_sent_what_where_several_may_write(
    sharing: str, of_the_client: str, tmp_path: Path, adapter: Adapter, daemon: StartDaemon
) -> None:
    file = tmp_path / "sw.log"
    log = {"log.file": str(file), "log.input": True, "log.timestamps": False}
    sw = entry(device=str(adapter.path), sharing=sharing, **log)
    process = await daemon(sw)
    client = await process.connect(sw)
    client.write(b"b\n")
    assert await adapter.receive(2) == b"b\n"
    person = await Framed.attach(process, "sw", take=True)
    person.types(b"a\n")
    assert await adapter.receive(2) == b"a\n"
    person.close()
    lines = f"{of_the_client.format(client=client.name)}\n> root:1: a\n"
    await until(lambda: file.exists() and file.read_text() == lines, "both are named")
