"""`ttybridge console`, in a terminal and in a script, with a daemon that is a process."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import pytest

from conftest import Adapter, MakeAdapter, on_each_loop
from person import at_terminal, script
from process import StartDaemon, entry
from ttybridge.console import HELP, QUIT, Keyboard
from ttybridge.protocol import console as frames


@on_each_loop
async def test_a_person_talks_to_a_device_and_quits(adapter: Adapter, daemon: StartDaemon) -> None:
    process = await daemon(entry(device=str(adapter.path), protocol="rfc2217"))
    with at_terminal("sw", runtime=process.runtime) as person:
        await person.sees(f"[ttybridge: sw: {adapter.path}, 9600 8N1")
        await person.sees("nobody is here")
        await person.sees("Ctrl-] ? helps")
        assert person.settings != person.before
        person.types("reload\r\x03\xff")
        assert await adapter.receive(10) == "reload\r\x03\xff".encode()
        await adapter.send(b"\x1b[31mProceed?\xff\r\n")
        await person.sees(b"\x1b[31mProceed?\xff\r\n")
        client = (await process.port())["clients"][0]
        assert client["address"] == "root:1"
        assert (client["person"], client["by"], client["writes"]) == ("root", "", True)
        person.types("\x1dq")
        assert await person.ends() == 0
        assert person.settings == person.before
        await person.sees("\x1b[0m")
    await process.has_clients(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_puts_the_terminal_back(
    number: signal.Signals, adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    with at_terminal("sw", runtime=process.runtime) as person:
        await person.sees("helps")
        person.send_signal(number)
        assert await person.ends() == 128 + number
        assert person.settings == person.before


async def test_a_program_that_is_stopped_gives_the_terminal_back_until_it_goes_on(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    with at_terminal("sw", runtime=process.runtime) as person:
        await person.sees("helps")
        raw = person.settings
        person.send_signal(signal.SIGTSTP)
        await person.has_settings(person.before)
        person.send_signal(signal.SIGCONT)
        await person.has_settings(raw)
        person.types("x")
        assert await adapter.receive(1) == b"x"


async def test_the_daemon_ends_and_the_terminal_is_put_back(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    with at_terminal("sw", runtime=process.runtime) as person:
        await person.sees("helps")
        await process.end()
        await person.sees("the session has ended")
        assert await person.ends() == 1
        assert person.settings == person.before


@on_each_loop
async def test_a_script_prints_the_answer_and_nothing_else(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path), protocol="telnet", replay=100, banner="Hello")
    process = await daemon(sw)
    await adapter.send(b"old")
    await process.has_read(3)
    words = ("sw", "--timeout", "1.5")
    running = asyncio.create_task(script(*words, runtime=process.runtime, typed=b"show\n"))
    assert await adapter.receive(5) == b"show\n"
    await adapter.send(b"\x00\xff\x1d\r\nanswer")
    assert await running == (0, b"\x00\xff\x1d\r\nanswer", b"ttybridge: Hello\n")


async def test_a_script_without_a_timeout_ends_as_nc_does(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    typed = bytes(300_000) + b"end"
    running = asyncio.create_task(script("sw", runtime=process.runtime, typed=typed))
    assert await adapter.receive(300_003) == typed
    await adapter.send(b"answer")
    assert await running == (0, b"answer", b"")


async def test_a_break_goes_out_after_what_was_typed_before(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    with at_terminal("sw", runtime=process.runtime) as person:
        await person.sees("helps")
        person.types("a\x1dbb\x1d\x1dc\x1d?")
        assert await adapter.receive(4) == b"ab\x1dc"
        await person.sees("Ctrl-] b  send a break")


@on_each_loop
async def test_who_is_there_take_over_watch_and_write(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    ssh = {"SSH_CONNECTION": "192.0.2.7 50000 192.0.2.1 22"}
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(at_terminal("sw", runtime=process.runtime, **ssh))
        await one.sees("helps")
        two = stack.enter_context(at_terminal("sw", "--watch", runtime=process.runtime))
        await two.sees("root:1, by ssh from 192.0.2.7, for ")
        await two.sees("sw: you watch")
        two.types("lost\x1di")
        await two.sees("port sw is in use by root:1 (by ssh from 192.0.2.7, for ")
        two.types("\x1dt")
        await two.sees("sw: you write now")
        await one.sees("sw: root:2 has taken over: you watch now")
        one.types("lost")
        two.types("mine")
        assert await adapter.receive(4) == b"mine"
        one.types("\x1dw")
        await one.sees("root:2, for ")
        two.types("\x1dv")
        await two.sees("sw: you watch")
        one.types("\x1di")
        await one.sees("sw: you write now")
        one.types("again")
        assert await adapter.receive(5) == b"again"
        await adapter.send(b"to both")
        await one.sees("to both")
        await two.sees("to both")
    assert "sw: client root:1 (by ssh from 192.0.2.7) connected" in process.log
    assert "sw: client root:1 replaced by root:2" in process.log


async def test_take_replaces_a_tcp_client_at_once_and_refused_is_who_does_not(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    client = await process.connect(sw)
    code, out, err = await script("sw", runtime=process.runtime)
    assert (code, out) == (1, b"")
    assert f"port sw is in use by {client.name} (for ".encode() in err
    with at_terminal("sw", "--take", runtime=process.runtime) as person:
        await person.sees("sw: you write now")
        assert await client.rest() == b""
        person.types("x")
        assert await adapter.receive(1) == b"x"


async def test_replay_shows_what_the_device_said(adapter: Adapter, daemon: StartDaemon) -> None:
    process = await daemon(entry(device=str(adapter.path), replay=6))
    await adapter.send(b"0123456789")
    await process.has_read(10)
    with at_terminal("sw", "--replay", "3", runtime=process.runtime) as person:
        await person.sees("helps]\r\n789")
        person.types("\x1dr")
        await person.sees("456789")
    with at_terminal("sw", runtime=process.runtime) as person:
        await person.sees("helps]\r\n456789")


async def test_a_person_chooses_a_port_from_a_list(
    make_adapter: MakeAdapter, daemon: StartDaemon
) -> None:
    ports = [
        entry(name=name, device=str(make_adapter(name).path), description=words)
        for name, words in (("router", "Core"), ("switch", "Floor 2"), ("ups", ""))
    ]
    process = await daemon(*ports)
    for keys, name in (
        (b"\r", "router"),
        (b"\x1b[B", "switch"),
        (b"3", "ups"),
        (b"floor", "switch"),
    ):
        with at_terminal(runtime=process.runtime) as person:
            await person.sees("Esc to leave)")
            for key in [keys] if keys.startswith(b"\x1b") else [bytes([key]) for key in keys]:
                person.types(key)
                if key != b"\r":
                    await person.sees("Esc to leave)")
            if keys != b"\r":
                person.types("\r")
            await person.sees(f"[ttybridge: {name}: ")
    with at_terminal(runtime=process.runtime) as person:
        await person.sees("Esc to leave)")
        person.types("\x1b")
        assert await person.ends() == 0
        assert person.settings == person.before
    code, _, err = await script(runtime=process.runtime)
    assert (code, err) == (1, b"say which port: router, switch, ups\n")


async def test_an_unknown_port_and_a_missing_daemon_are_named(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(adapter.path)))
    with at_terminal("nix", runtime=process.runtime) as person:
        await person.sees("no port is named 'nix': see ttybridge status\r\n")
        assert await person.ends() == 1
        assert person.settings == person.before
    await process.end()
    code, _, err = await script("sw", runtime=process.runtime)
    assert (code, err.startswith(b"no daemon answers at")) == (1, True)


def test_the_keyboard_splits_text_and_commands_also_in_pieces() -> None:
    keyboard = Keyboard()
    assert [*keyboard.typed(b"ab\x1d")] == [(frames.DATA, b"ab")]
    assert [*keyboard.typed(b"Qc\x1d\x1dd")] == [
        (QUIT, b"q"),
        (frames.DATA, b"c"),
        (frames.DATA, b"\x1d"),
        (frames.DATA, b"d"),
    ]
    assert [*keyboard.typed(b"\x1dz")] == [(HELP, b"z")]
