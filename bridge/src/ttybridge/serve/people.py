"""How people at the host reach a port: `ttybridge console`, by the daemon's control socket."""

from __future__ import annotations

import itertools
import socket

from ttybridge.model import ports as model
from ttybridge.model.people import Person
from ttybridge.net.connection import Connection
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve.client import Client, Visit
from ttybridge.serve.entrance import Entrance
from ttybridge.serve.listeners import Endpoint
from ttybridge.serve.port import ServedPort
from ttybridge.serve.state import ClientState


class Refused(Exception):
    """A person cannot come in; the message says why."""


class People(Endpoint):
    """The endpoint of `ttybridge console`: it listens nowhere, and is always open."""

    def __init__(self, served: ServedPort, urgent: FullModeWatch) -> None:
        super().__init__(served, Entrance.of_people(served.port), urgent)
        self._leaves = False

    async def start(self, kept: socket.socket | None = None, kept_as: str = "") -> None:
        """Do nothing."""

    def change(self, port: model.Port) -> None:
        """Go on with another entry of the port."""
        self.entrance.become(Entrance.of_people(port))

    async def settle(self) -> None:
        """Let nobody in any more."""
        self._leaves = True

    def client(self, state: ClientState | None = None) -> Client:
        """Return a client from before a restart."""
        return Client(self.served, self.entrance, state=state)

    def visit(self, person: Person, watch: bool, take: bool, replay: int | None) -> Connection:
        """Return the connection of a person who comes now. Raises `Refused`."""
        if words := self.served.clients.turn_away_person(person):
            raise Refused(words)
        if self._leaves:
            raise Refused("ttybridge stops or restarts: try again in a moment")
        self.served.begin()  # where no listener could be opened, the device is not open either
        visit = Visit(self._free_name(person), person, watch, take, replay)
        return Client(self.served, self.entrance, visit=visit).connection

    def _free_name(self, person: Person) -> str:
        """The account with the first number that none of its sessions here has."""
        taken = {client.name for client in self.served.clients.all}
        names = (f"{person.name}:{number}" for number in itertools.count(1))
        return next(name for name in names if name not in taken)

    def _tune(self, sock: socket.socket) -> None:
        """Do nothing: what there is to tune is TCP's."""
