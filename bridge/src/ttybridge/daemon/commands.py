"""What the daemon does for who asks at its control socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ttybridge.daemon import control
from ttybridge.daemon.control import Attachment, CommandError
from ttybridge.model.people import Person
from ttybridge.serve.people import Busy
from ttybridge.serve.server import Server


def commands(server: Server, status: Callable[[], dict[str, Any]]) -> control.Commands:
    """Return every command by its name; `status` is what `ttybridge status --json` shows."""

    async def console(request: dict[str, Any], person: Person) -> Attachment:
        replay = request.get("replay")
        if replay is not None and (type(replay) is not int or replay < 0):
            raise CommandError(f"replay: {replay}: write a whole number of bytes")
        watch, take = bool(request.get("watch")), bool(request.get("take"))
        try:
            connection, port = server.visit(_port(request), person, watch, take, replay)
        except Busy as error:
            raise CommandError(str(error)) from None
        return Attachment({"you": connection.name, "port": port}, connection)

    async def kick(request: dict[str, Any], person: Person) -> dict[str, Any]:
        return {"kicked": server.kick(_port(request), request.get("client"), str(person))}

    async def release(request: dict[str, Any], person: Person) -> dict[str, Any]:
        seconds = request.get("seconds")
        if type(seconds) is not int or seconds not in control.RELEASE_SECONDS:
            raise CommandError(f"seconds: {seconds}: {control.RELEASE_SECONDS_WORDS}")
        return {"released": str(await server.release(_port(request), seconds, str(person)))}

    async def reclaim(request: dict[str, Any], person: Person) -> dict[str, Any]:
        was_released, problem = await server.reclaim(_port(request), str(person))
        return {"reclaimed": was_released, "problem": problem}

    async def asked_status(_request: dict[str, Any], _person: Person) -> dict[str, Any]:
        return status()

    return {
        "status": asked_status,
        "console": _of_a_port(console),
        "kick": _of_a_port(kick),
        "release": _of_a_port(release),
        "reclaim": _of_a_port(reclaim),
    }


def _port(request: dict[str, Any]) -> str:
    return str(request.get("port"))


def _of_a_port(command: control.Command) -> control.Command:
    """Return a command that says so if there is no such port."""

    async def run(request: dict[str, Any], person: Person) -> control.Answer:
        try:
            return await command(request, person)
        except KeyError as error:
            raise CommandError(f"no port is named {error}: see ttybridge status") from None

    return run
