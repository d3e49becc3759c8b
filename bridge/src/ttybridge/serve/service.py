"""One port of the daemon with all its endpoints: started, changed, handed over, stopped."""

from __future__ import annotations

import logging
import socket
from typing import Any

from ttybridge.model.changes import closed
from ttybridge.model.ports import CONSOLE, Port, as_entry
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve import handover
from ttybridge.serve.bounds import Bounds
from ttybridge.serve.client import Client
from ttybridge.serve.keeper import Keeper, Store
from ttybridge.serve.listeners import Dialer, Endpoint, Listener
from ttybridge.serve.people import People
from ttybridge.serve.port import ServedPort
from ttybridge.serve.state import ClientState, PortState

log = logging.getLogger(__name__)


class Service:
    """A port, its device and clients, and its listeners or the connection that it dials."""

    def __init__(
        self, port: Port, urgent: FullModeWatch, bounds: Bounds, store: Store | None = None
    ) -> None:
        self.served = ServedPort(port, bounds, Keeper(store))
        self._urgent = urgent
        self.endpoints: list[Endpoint] = []
        self.people = People(self.served, urgent)
        self._new: list[Endpoint] = []
        """Those that are not started yet."""
        self._is_kept = False
        self._complete()

    def _complete(self) -> None:
        """Have the endpoints that the entry wants, in its order."""
        port, there = self.served.port, {each.entrance.at: each for each in self.endpoints}
        wanted: list[Endpoint] = [
            there.get(str(one.at)) or Listener(self.served, one, self._urgent)
            for one in port.listeners
        ]
        if port.connect:
            wanted.append(there.get("") or Dialer(self.served, port.connect, self._urgent))
        self._new = [each for each in wanted if each not in self.endpoints]
        self.endpoints = wanted
        state = self.served.state
        state.entry, state.shortest = handover.plain(port), handover.plain(as_entry(port))

    @property
    def is_open(self) -> bool:
        """Whether clients can connect at one endpoint at least, or need none."""
        return any(endpoint.is_open for endpoint in self.endpoints) or not self.endpoints

    @property
    def problem(self) -> str | None:
        """Why clients cannot connect at some endpoint, in words, or None."""
        problems = [endpoint.problem for endpoint in self.endpoints if endpoint.problem]
        return "; ".join(problems) or None

    async def start(self) -> None:
        """Let clients connect where they cannot yet, and open the device."""
        if not self.endpoints:
            self.served.begin()
        while self._new:
            await self._new.pop(0).start()
        self._release_in_vain()
        self._keep()

    def _keep(self) -> None:
        """Keep the port for the next process, from now on."""
        if not self._is_kept:
            self._is_kept = True
            self.served.keeper.begin(self._record)

    def _record(self) -> bytes:
        """Return what the next process needs if this one is killed, as bytes."""
        state = handover.small(self.served)
        state.listeners = [endpoint.kept_as for endpoint in self.endpoints]
        return b"".join(handover.dump({self.served.port.name: state}))

    def count(self) -> None:
        """Note what the port has counted since it was last noted."""
        state = self.served.state
        matches = tuple(state.matches.values())
        received = sum(client.state.received for client in self.served.clients.inside)
        self.served.keeper.count((state.counters.from_device, state.written, matches, received))

    def _release_in_vain(self) -> None:
        """Do not keep a device from other programs that nobody can reach."""
        served = self.served
        if not (self.is_open or served.port.connect or served.clients.inside):
            served.release_device("the port does not listen")

    def is_other(self, port: Port) -> bool:
        """Whether an entry is of another device: then the port must stop and start again."""
        return self.served.device.is_another() or closed(self.served.port, port).port

    async def change(self, port: Port) -> None:
        """Go on with another entry of this device: close what that closes, and nothing else.

        `start` opens what it adds: another port may have to give up a listener first.
        """
        gone = closed(self.served.port, port).listeners
        leaving = [each for each in self.endpoints if each.entrance.at in gone]
        self.endpoints = [each for each in self.endpoints if each not in leaving]
        for endpoint in (*self.endpoints, self.people):
            endpoint.change(port)
        self.served.change(port)
        self._complete()
        for endpoint in leaving:
            await endpoint.stop()
            self.served.clients.close_entrance(endpoint.entrance)
        log.info("%s: changed", port.name)

    async def stop(self) -> None:
        """Close endpoints, clients and device."""
        for endpoint in (*self.endpoints, self.people):
            await endpoint.stop()
        await self.served.stop()
        self.served.keeper.end()

    @property
    def is_busy(self) -> bool:
        """Whether `settle` would wait for something."""
        return handover.is_busy(self.served)

    async def settle(self) -> None:
        """Let no more clients connect; finish what is under way."""
        for endpoint in (*self.endpoints, self.people):
            await endpoint.settle()
        await handover.settle(self.served)

    def leave(self) -> PortState:
        """Return what the next process needs."""
        state = handover.leave(self.served)
        state.listeners = [endpoint.kept_as for endpoint in self.endpoints]
        return state

    async def resume(self, record: PortState, descriptors: dict[str, int]) -> None:
        """Go on from an earlier process; remove the descriptors that are taken."""
        clients = [(self._endpoint_of(each), each) for each in record.clients]
        again = [(endpoint, endpoint.client(state)) for endpoint, state in clients]
        tty = descriptors.pop(record.tty or "", None)
        replay = descriptors.pop(record.replay_in or "", None)
        clients_again = [one for _, one in again]
        resumption = handover.Resumption(self.served, record, tty, replay, clients_again)
        for endpoint, client in again:
            await _connect_again(endpoint, client, descriptors)
        resumption.finish()
        names = record.listeners or [record.listener or ""]
        for endpoint, name in zip(self.endpoints, names, strict=False):
            listener = descriptors.pop(name, None)
            kept = None if listener is None else socket.socket(fileno=listener)
            await endpoint.start(kept, name)
        self._new.clear()
        self._release_in_vain()
        self._keep()

    def _endpoint_of(self, client: ClientState) -> Endpoint:
        """The endpoint that a client came by; the first where an earlier version does not say."""
        if client.entrance == CONSOLE:
            return self.people
        same = (each for each in self.endpoints if each.entrance.at == client.entrance)
        return next(same, self.endpoints[0])

    def status(self) -> dict[str, Any]:
        """The port as `ttybridge status --json` shows it."""
        port = self.served.port
        listen = {
            "listen": None if port.connect else port.endpoint,
            "connect": str(port.connect) if port.connect else None,
            "listening": all(endpoint.is_open for endpoint in self.endpoints),
            "listen_problem": self.problem,
            "listeners": [each.status() for each in self.endpoints if each.entrance.at],
        }
        status = {**self.served.status(), **listen}
        if self.served.device.is_another():
            status["device"]["problem"] = (
                f"{port.path} is another device now than the one that is open: "
                "sudo systemctl reload ttybridge opens the new one"
            )
        return status


async def _connect_again(endpoint: Endpoint, client: Client, descriptors: dict[str, int]) -> None:
    connection = descriptors.pop(client.state.connection, None)
    if connection is not None:
        await endpoint.connect_again(client, socket.socket(fileno=connection))
