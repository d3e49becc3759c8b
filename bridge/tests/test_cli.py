"""The commands as a person or a unit runs them: exit codes, messages, signals, status."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
from pathlib import Path

import pytest

from conftest import Adapter, Connect, free_tcp_port, in_time, on_each_loop, reset_on_close, until
from process import StartDaemon, command, entry, environment, run, tcp_port
from ttybridge import cli
from ttybridge.daemon import control

SOUND = '[[port]]\nname = "sw"\ndevice = "/dev/ttyUSB0"\nlisten = 9999\n'


def test_check_counts_the_ports_of_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "ttybridge.toml"
    path.write_text(SOUND)
    done = run("check", "--config", str(path), runtime=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{path}: 1 port, no faults\n")


def test_check_says_every_fault_on_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "ttybridge.toml"
    path.write_text(SOUND + 'baudrate = 0\nparity = "N"\n')
    done = run("check", "--config", str(path), runtime=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"{path}: port sw: baudrate: 0: write a whole number from 50 to 12000000",
        f"{path}: port sw: parity: 'N': write none, even, odd, mark or space",
    ]


@pytest.mark.parametrize(("more", "status"), [("", 0), ("b", 3)])
def test_import_ends_with_a_summary(more: str, status: int, tmp_path: Path) -> None:
    path = tmp_path / "ser2net.conf"
    path.write_text(f"2001:raw:0:/dev/ttyUSB0:9600\n2002:raw:0:/dev/ttyS0:9600 {more}\n")
    done = run("import", str(path), runtime=tmp_path)
    lost = ", 1 lost" if more else ""
    assert done.returncode == status
    *_, is_open, summary = done.stderr.splitlines()
    assert summary == f"2 of 2 ports{lost}, 1 note"
    named = "2 ports (port-2001, port-2002): write allow: [local]"
    assert is_open.startswith(f"open to everyone who reaches them: {named}")


def test_what_files_are_called_and_hold_is_no_command_to_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;x\a\u202e\x9b\n- x"
    path = tmp_path / f"{evil}.conf"
    path.write_text(f"BANNER:b:{evil}\n2001:telnet:0:/dev/{evil[:-4]}:9600 b\nb{evil}\n")
    for words in (["import", str(path)], ["check", "--config", str(path)]):
        done = run(*words, runtime=tmp_path)
        assert re.findall("[^\n -~]", done.stdout + done.stderr) == []
        assert r"\x1b]0;x" in done.stderr


def test_what_a_daemon_says_of_devices_is_no_command_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = {"path": "/dev/\x1b[31m", "present": True, "problem": "\u202e\x9bproblem"}
    port = {
        **{"name": "sw", "connect": None, "listen": "1", "listening": True, "clients": []},
        **{"device": device, "listen_problem": "", "counters": {"from_device": 0, "to_device": 0}},
    }
    monkeypatch.setattr(control, "ask", lambda *_, **__: {"ports": [port]})
    assert cli.main(["status"]) == 0
    assert cli.main(["status", "--json"]) == 0
    said = capsys.readouterr().out
    assert re.findall("[^\n -~]", said) == []
    assert r"/dev/\x1b[31m" in said
    assert r"sw: \u202e\x9bproblem" in said


@pytest.mark.parametrize(
    "words",
    [
        ("serve", "--config", "/nonexistent/ttybridge.toml"),
        ("check", "--config", "/nonexistent/ttybridge.toml"),
        ("serve", "--port", "name=sw,device=/dev/ttyUSB0,listen=0"),
        ("serve", "--port", "sw"),
        ("status",),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_status_1(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(*words, runtime=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [(), ("serve",), ("dance",), ("serve", "--config")])
def test_a_wrong_command_line_exits_with_2(words: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*words, runtime=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ttybridge")


def test_status_without_a_daemon_says_what_to_look_at(tmp_path: Path) -> None:
    done = run("status", runtime=tmp_path)
    assert done.stderr == (
        f"no daemon answers at {tmp_path}/control.sock: systemctl status ttybridge says why\n"
    )


def test_serve_that_can_serve_nothing_names_the_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        listen = f"127.0.0.1:{squatter.getsockname()[1]}"
        done = run("serve", "--port", f"name=sw,device=/x,listen={listen}", runtime=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"sw: cannot listen on {listen}: another program holds TCP port"
    )
    assert r"\n" not in done.stderr


@on_each_loop
async def test_a_stop_delivers_what_is_under_way(adapter: Adapter, daemon: StartDaemon) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    client = await process.connect(sw)
    client.write(bytes(50_000) + b"the end")
    await adapter.send(b"x")
    assert await client.receive(1) == b"x"
    process.signal(signal.SIGTERM)
    assert (await adapter.receive(50_007)).endswith(b"the end")
    assert await process.exit_status() == 0
    assert await client.rest() == b""


@on_each_loop
async def test_a_stop_gives_a_client_that_reads_late_all_that_the_device_sent(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", tcp_port(sw)))
        await process.has_clients(1)
        sending = asyncio.create_task(adapter.send(bytes(16 * 1024 * 1024)))
        size = await process.reads_no_more()
        sending.cancel()
        process.signal(signal.SIGTERM)
        await process.logs("stopping")
        with client.makefile("rb") as stream:
            assert len(await asyncio.to_thread(stream.read)) == size
    assert await process.exit_status() == 0


async def test_ctrl_c_is_a_clean_stop(tmp_path: Path, daemon: StartDaemon) -> None:
    process = await daemon(entry(device=str(tmp_path / "tty")))
    assert await process.end(signal.SIGINT) == 0


@on_each_loop
async def test_a_stop_while_the_device_takes_nothing_says_what_is_lost(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw = entry(device=str(adapter.path))
    process = await daemon(sw)
    client = await process.connect(sw)
    client.write(bytes(8 * 1024 * 1024))
    await process.until(lambda port: port["counters"]["to_device"], "the device is written to")
    assert await process.end() == 0
    assert process.log.count("bytes for the device are lost") == 1


@on_each_loop
async def test_a_reload_takes_the_new_file_and_a_faulty_one_changes_nothing(
    adapter: Adapter, tmp_path: Path, daemon: StartDaemon
) -> None:
    sw, more = entry(device=str(adapter.path)), entry(name="more", device="/nonexistent/tty")
    process = await daemon(sw)
    client = await process.connect(sw)
    process.configure(sw, more)
    process.signal(signal.SIGHUP)
    await process.logs("reloaded: 2 ports")
    process.configure(sw, {**more, "baudrate": 0})
    process.signal(signal.SIGHUP)
    await process.logs("not reloaded, all stays as it was")
    assert "port more: baudrate: 0: write a whole number" in process.log
    assert [port["name"] for port in (await process.status())["ports"]] == ["sw", "more"]
    await adapter.send(b"still here")
    assert await client.receive(10) == b"still here"
    process.configure()
    process.signal(signal.SIGHUP)
    assert await client.rest() == b""
    await process.logs("reloaded: 0 ports")
    assert await process.end() == 0


async def test_status_shows_ports_clients_and_problems(
    adapter: Adapter, daemon: StartDaemon
) -> None:
    sw, away = entry(device=str(adapter.path)), entry(name="away", device="/nonexistent/tty")
    taken = entry(name="taken", device="/nonexistent/t2")
    with socket.create_server(("127.0.0.1", tcp_port(taken))):
        process = await daemon(sw, away, taken)
        client = await process.connect(sw)
        await adapter.send(b"12345")
        await client.receive(5)
        done = await asyncio.to_thread(run, "status", runtime=process.runtime)
        lines = [line.split() for line in done.stdout.splitlines()]
        assert lines[1] == ["sw", sw["listen"], str(adapter.path), client.name, "5", "0"]
        assert lines[2] == ["away", away["listen"], "absent", "-", "0", "0"]
        assert lines[3][:3] == ["taken", "NOT", taken["listen"]]
        assert "away: /nonexistent/tty does not exist" in done.stdout
        assert f"taken: cannot listen on {taken['listen']}" in done.stdout
        done = await asyncio.to_thread(run, "status", "--json", runtime=process.runtime)
        status = json.loads(done.stdout)
        assert status == {**await process.status(), "ports": status["ports"]}
        assert status["pid"] == process.pid
        assert status["ports"][0]["clients"][0]["address"] == client.name


@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_a_reader_of_its_output_may_leave_early(unbuffered: str, tmp_path: Path) -> None:
    nobody, output = os.pipe()
    os.close(nobody)
    process = await asyncio.create_subprocess_exec(
        *command("discover"),
        env=environment(tmp_path, PYTHONUNBUFFERED=unbuffered),
        stdout=output,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(output)
    async with in_time("the command ends"):
        _, said = await process.communicate()
    assert (said, process.returncode) == (b"", 1)


async def test_every_user_may_ask_the_daemon(daemon: StartDaemon) -> None:
    process = await daemon(entry(device="/nonexistent/tty"), before="umask 022")
    path = process.runtime / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_status_says_what_a_port_is_where_that_is_written() -> None:
    def port(name: str, **keys: object) -> dict[str, object]:
        device = {"path": "/dev/ttyS0", "present": True, "problem": None}
        counters = {"from_device": 1, "to_device": 2}
        common = {"connect": None, "listen": "1, 2", "listening": True, "listen_problem": None}
        return {"name": name, "device": device, "clients": [], "counters": counters} | common | keys

    plain = cli._status_table({"ports": [port("a")]}).splitlines()
    assert plain[0].endswith("  TO DEVICE")
    keys = {"description": "Core switch", "location": "rack 1", "tags": ["lab"]}
    table = cli._status_table({"ports": [port("a"), port("b", **keys)]}).splitlines()
    assert table[0].endswith("  TO DEVICE  ABOUT")
    assert table[1] == plain[1]
    assert table[2].endswith("2          Core switch (rack 1) [lab]")


async def test_a_socket_that_a_killed_daemon_left_is_replaced(
    tmp_path: Path, daemon: StartDaemon
) -> None:
    process = await daemon(entry(device=str(tmp_path / "tty")))
    process.signal(signal.SIGKILL)
    await until(lambda: process.ended, "it ends")
    await process.start(entry(device=str(tmp_path / "tty")))
    assert (await process.port())["listening"]


async def test_a_status_socket_that_cannot_be_made_does_not_keep_ports_from_being_served(
    tmp_path: Path, connect: Connect
) -> None:
    sw = entry(device="/nonexistent/tty")
    process = await asyncio.create_subprocess_exec(
        *command("serve", "--port", ",".join(f"{key}={value}" for key, value in sw.items())),
        env=environment(tmp_path / ("x" * 120)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    async with in_time("the daemon serves and ends"):
        while b"status will not work" not in (line := await process.stderr.readline()):
            assert line
        assert b"None" not in line
        await connect("127.0.0.1", tcp_port(sw))
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


@on_each_loop
@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\n",
        b"status\n",
        b"\xff\xfe\x00\n",
        b"[]\n",
        b"7\n",
        b'{"command": ["status"]}\n',
        b'{"command": "stop"}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 1_000_000,
    ],
)
async def test_junk_on_the_status_socket_harms_nothing(junk: bytes, daemon: StartDaemon) -> None:
    process = await daemon(entry(device="/nonexistent/tty"))
    try:
        answer = await process.say(junk)
    except ConnectionError:
        answer = b""
    assert not answer or "error" in json.loads(answer)
    assert (await process.port())["listening"]
    assert await process.end() == 0


async def test_one_who_asks_and_leaves_at_once_harms_nothing(daemon: StartDaemon) -> None:
    process = await daemon(entry(device="/nonexistent/tty"))
    before = process.descriptors()
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as asker:
            reset_on_close(asker)
            asker.connect(str(process.runtime / "control.sock"))
            asker.send(b'{"command": "status"}\n')
    assert (await process.port())["listening"]
    await until(lambda: process.descriptors() <= before + 1, "its descriptors are as few as before")


@on_each_loop
async def test_a_stop_while_somebody_is_about_to_ask_is_clean(
    connect: Connect, daemon: StartDaemon
) -> None:
    number = free_tcp_port()
    process = await daemon()
    process.configure(metrics=f"127.0.0.1:{number}")
    process.signal(signal.SIGHUP)
    await process.logs(f"metrics on 127.0.0.1:{number}")
    _, asker = await asyncio.open_unix_connection(process.runtime / "control.sock")
    await connect("127.0.0.1", number)
    await process.status()  # the daemon has taken both in
    assert await process.end() == 0
    asker.close()
    assert "Traceback" not in process.log
