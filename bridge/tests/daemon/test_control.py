"""The control socket: who asks, and what each may do. Accounts are those that every host has."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import pwd
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Adapter, Bench, MakePort, Serve, TcpClient, until
from ttybridge.daemon import control, people
from ttybridge.daemon.commands import commands
from ttybridge.model.people import Person
from ttybridge.model.ports import Port
from ttybridge.net.attach import user_of
from ttybridge.serve.port import ServedPort

# Users of every Debian: `daemon` is in the group of the same name, and `nobody` in no other.
DAEMON, NOBODY = 1, 65534


class Desk:
    """A control socket, and what another user than the one of this process sees there."""

    def __init__(self, place: Path, become: Callable[[int], None]) -> None:
        self._place, self.become = place, become

    async def begin(self, uid: int, command: str, **request: Any) -> tuple[dict[str, Any], Any]:
        """Ask as a user; return the answer, and the connection."""
        self.become(uid)
        client = TcpClient(*await asyncio.open_unix_connection(str(self._place)))
        client.write(json.dumps({"command": command, **request}).encode() + b"\n")
        return json.loads(await client.hear(b"\n")), client

    async def ask(self, uid: int, command: str, **request: Any) -> dict[str, Any]:
        """Ask as a user, and leave."""
        answer, client = await self.begin(uid, command, **request)
        client.close()
        return answer


@contextlib.asynccontextmanager
async def desk(bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """The control socket of a server for the length of a block."""
    place = folder / "control.sock"
    server = await control.serve(place, commands(bench.server, bench.server.status))
    # A daemon's own account may do all, and this process may well be one of the users.
    monkeypatch.setattr("os.geteuid", lambda: 12345)

    def become(uid: int) -> None:
        monkeypatch.setattr("ttybridge.daemon.control.user_of", lambda _: uid)

    try:
        yield Desk(place, become)
    finally:
        server.close()


def test_the_kernel_says_who_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert user_of(ours) == os.getuid()


def test_nss_says_the_name_and_all_groups() -> None:
    assert people.look_up(DAEMON) == ("daemon", ["daemon"])
    assert people.look_up(987_654_321) == ("uid 987654321", [])


@pytest.mark.parametrize(
    ("users", "name", "groups", "may"),
    [
        ((), "jane", [], False),
        ((), "jane", ["dialout"], True),
        (("jane",), "jane", [], True),
        (("jane",), "joe", ["jane", "dialout"], False),
        (("@netops", "jane"), "joe", ["users", "netops"], True),
        (("@jane",), "jane", [], False),
        (("@jane",), "@jane", [], False),
    ],
)
def test_who_may_use_a_port(
    users: tuple[str, ...], name: str, groups: list[str], may: bool
) -> None:
    assert Person(name, groups).may_use(users) == may
    assert Person(name, groups, is_owner=True).may_use(users)


async def test_each_user_sees_and_does_what_its_ports_allow(
    adapter: Adapter,
    make_port: MakePort,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ports = [
        make_port(users=["daemon"]),
        make_port(name="groups", device="/nonexistent/1", users=["@daemon", "jane"]),
        make_port(name="closed", device="/nonexistent/2"),
    ]
    bench = await serve(*ports)
    async with desk(bench, tmp_path, monkeypatch) as there:
        names = {
            uid: [port["name"] for port in (await there.ask(uid, "status"))["ports"]]
            for uid in (0, DAEMON, NOBODY)
        }
        assert names == {0: ["sw", "groups", "closed"], DAEMON: ["sw", "groups"], NOBODY: []}
        assert await there.ask(NOBODY, "console", port="groups") == {
            "error": "nobody may not use port groups: @daemon and jane may"
        }
        assert "groups: nobody refused: nobody may not use port groups" in caplog.text
        assert bench.status("groups")["counters"]["refused_clients"] == 1
        assert await there.ask(DAEMON, "console", port="closed") == {
            "error": "daemon may not use port closed: root and @dialout may"
        }
        answer, client = await there.begin(DAEMON, "console", port="sw", by="ssh", address="::1")
        assert answer["you"] == "daemon:1"
        (said,) = bench.status()["clients"]
        assert [said[key] for key in ("person", "by", "from")] == ["daemon", "ssh", "::1"]
        for command in ("release", "reclaim"):
            words = f"sw: daemon may not {command} it: use sudo, or join group dialout"
            asked = await there.ask(DAEMON, command, port="sw", seconds=9)
            assert asked == {"error": words}
        assert "error" in await there.ask(NOBODY, "kick", port="sw")
        assert await there.ask(DAEMON, "kick", port="sw") == {"kicked": ["daemon:1"]}
        assert "sw: client daemon:1 closed by daemon (ttybridge kick)" in caplog.text
        client.close()


async def test_what_somebody_may_not_see_takes_no_time_from_the_ports(
    make_port: MakePort, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await serve(make_port(device="/nonexistent/tty"))
    looks: list[str] = []

    def status(served: ServedPort) -> dict[str, Any]:
        looks.append(served.port.name)
        return {"name": served.port.name}

    monkeypatch.setattr(ServedPort, "status", status)
    async with desk(bench, tmp_path, monkeypatch) as there:
        assert not (await there.ask(NOBODY, "status"))["ports"]
        assert not looks
        assert (await there.ask(0, "status"))["ports"]
        assert looks == ["sw"]


async def test_who_has_lost_a_group_is_refused_at_the_next_request(
    adapter: Adapter,
    make_port: MakePort,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = await serve(make_port(users=["@daemon"]))
    async with desk(bench, tmp_path, monkeypatch) as there:
        assert (await there.ask(DAEMON, "status"))["ports"]
        monkeypatch.setattr(people, "look_up", lambda _: ("daemon", []))
        assert not (await there.ask(DAEMON, "status"))["ports"]


async def test_a_reload_closes_who_may_no_longer_use_the_port(
    adapter: Adapter,
    make_port: MakePort,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def port(*users: str) -> Port:
        return make_port(users=list(users), listen="127.0.0.1:1", sharing="shared")

    bench = await serve(port("@daemon", "nobody"))
    async with desk(bench, tmp_path, monkeypatch) as there:
        _, stays = await there.begin(DAEMON, "console", port="sw")
        _, goes = await there.begin(NOBODY, "console", port="sw")
        await bench.has_clients(2)
        await bench.server.apply([port("@daemon")])
        assert b"nobody may not use port sw: @daemon may" in await goes.rest()
        assert [one["address"] for one in bench.status()["clients"]] == ["daemon:1"]
        stays.close()
        goes.close()


async def test_a_directory_that_does_not_answer_holds_up_its_own_users_only(
    make_port: MakePort, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await serve(make_port())
    ask_again = asyncio.Event()
    monkeypatch.setattr(people, "LOOKUP_SECONDS", 0.1)

    async def hang(work: Callable[[], object]) -> None:
        await ask_again.wait()

    monkeypatch.setattr(people, "in_thread", hang)
    async with desk(bench, tmp_path, monkeypatch) as there:
        assert await there.ask(DAEMON, "status") == {
            "error": "cannot look up who asks: NSS has not answered within 0.1 s"
        }
        assert (await there.ask(0, "status"))["ports"]


async def test_a_user_with_many_open_requests_gets_no_more_and_others_do(
    make_port: MakePort, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await serve(make_port())
    async with desk(bench, tmp_path, monkeypatch) as there:
        there.become(DAEMON)
        place = str(tmp_path / "control.sock")
        silent = [
            TcpClient(*await asyncio.open_unix_connection(place))
            for _ in range(control.ASKED_AT_ONCE)
        ]
        answer = await there.ask(DAEMON, "status")
        assert answer == {"error": "too many requests at once: try again"}
        assert (await there.ask(0, "status"))["ports"]
        silent.pop().close()

        async def has_place() -> bool:
            return "ports" in await there.ask(DAEMON, "status")

        await until(has_place, "a place is free again")
        for client in silent:
            client.close()


@pytest.mark.parametrize(
    ("told", "by", "address"),
    [
        ({}, "", ""),
        ({"by": "ssh", "address": "192.0.2.7"}, "ssh", "192.0.2.7"),
        ({"by": "ssh", "address": "fe80::1%eth0"}, "ssh", "fe80::1"),
        ({"by": "ssh", "address": "\x1b[2J"}, "ssh", ""),
        ({"by": "ssh"}, "ssh", ""),
        ({"by": "by\nssh", "address": "192.0.2.7"}, "", ""),
        ({"by": ["ssh"], "address": 7}, "", ""),
    ],
)
async def test_what_a_program_tells_is_used_where_it_makes_sense(
    told: dict[str, Any], by: str, address: str
) -> None:
    person = await people.person_of(0, told)
    assert (str(person), person.by, person.address) == ("root", by, address)


async def test_root_may_say_for_whom_and_nobody_else() -> None:
    told = {"sudo_user": "jane"}
    assert str(await people.person_of(0, told)) == "jane (root)"
    assert str(await people.person_of(0, {"sudo_user": "a\nb"})) == "root"
    assert str(await people.person_of(DAEMON, told)) == "daemon"


def test_the_accounts_of_these_tests_are_there() -> None:
    assert (pwd.getpwuid(DAEMON).pw_name, grp.getgrgid(DAEMON).gr_name) == ("daemon", "daemon")
    assert pwd.getpwuid(NOBODY).pw_name == "nobody"
