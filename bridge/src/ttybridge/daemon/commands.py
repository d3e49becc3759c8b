"""What the daemon does for who asks at its control socket."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ttybridge.daemon import control
from ttybridge.daemon.control import Attachment, CommandError
from ttybridge.model.people import ADMINISTRATORS, Person
from ttybridge.serve.people import Refused
from ttybridge.serve.server import Server

log = logging.getLogger(__name__)


Status = Callable[[Person], dict[str, Any]]


def commands(server: Server, status: Status) -> control.Commands:
    """Return every command by its name.

    `status` returns what `ttybridge status --json` shows to a person.
    """

    async def console(request: dict[str, Any], person: Person) -> Attachment:
        replay = request.get("replay")
        if replay is not None and (type(replay) is not int or replay < 0):
            raise CommandError(f"replay: {replay}: write a whole number of bytes")
        watch, take = bool(request.get("watch")), bool(request.get("take"))
        try:
            connection, port = server.visit(_port(request), person, watch, take, replay)
        except Refused as error:
            raise CommandError(str(error)) from None
        return Attachment({"you": connection.name, "port": port}, connection)

    async def kick(request: dict[str, Any], person: Person) -> dict[str, Any]:
        if not person.may_see(server.users(_port(request))):
            _only_administrators(person, request)
        return {"kicked": server.kick(_port(request), request.get("client"), str(person))}

    async def release(request: dict[str, Any], person: Person) -> dict[str, Any]:
        _only_administrators(person, request)
        seconds = request.get("seconds")
        if type(seconds) is not int or seconds not in control.RELEASE_SECONDS:
            raise CommandError(f"seconds: {seconds}: {control.RELEASE_SECONDS_WORDS}")
        return {"released": str(await server.release(_port(request), seconds, str(person)))}

    async def reclaim(request: dict[str, Any], person: Person) -> dict[str, Any]:
        _only_administrators(person, request)
        was_released, problem = await server.reclaim(_port(request), str(person))
        return {"reclaimed": was_released, "problem": problem}

    async def asked_status(_request: dict[str, Any], person: Person) -> dict[str, Any]:
        return status(person)

    return {
        "status": asked_status,
        "console": _of_a_port(console),
        "kick": _of_a_port(kick),
        "release": _of_a_port(release),
        "reclaim": _of_a_port(reclaim),
    }


def _only_administrators(person: Person, request: dict[str, Any]) -> None:
    if not person.administers:
        port, command = _port(request), request["command"]
        log.warning("%s: %s refused: %s", port, person, command)
        raise CommandError(
            f"{port}: {person} may not {command} it: use sudo, or join group {ADMINISTRATORS}"
        )


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
