"""All ports of the daemon: started, reloaded, handed over, asked."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from ttybridge.model.people import Person
from ttybridge.model.ports import Port
from ttybridge.net.connection import Connection
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve.bounds import Bounds
from ttybridge.serve.handover import Inheritance, freeze
from ttybridge.serve.keeper import Store
from ttybridge.serve.service import Service
from ttybridge.serve.state import PortState, Release

log = logging.getLogger(__name__)

# How old the counters may be with which a port goes on after a kill.
COUNT_SECONDS = 1.0


class ListenError(Exception):
    """No port can be served; the message says why for each."""


class Server:
    """All ports of the daemon."""

    def __init__(self, inherited: Inheritance | None = None, store: Store | None = None) -> None:
        self._inherited = inherited
        self._store = store
        self._counting: asyncio.TimerHandle | None = None
        self._services: dict[str, Service] = {}
        self._urgent = FullModeWatch()
        self._bounds = Bounds()

    async def start(self, ports: Sequence[Port]) -> None:
        """Serve `ports`; on return each listens, or its fault is logged and the port keeps trying.

        Raises `ListenError` where there are ports and not one of them can listen.
        """
        await self.apply(ports)
        services = self._services.values()
        if services and not any(
            service.is_open or service.served.port.connect for service in services
        ):
            problems = "\n".join(f"{name}: {one.problem}" for name, one in self._services.items())
            await self.stop()
            raise ListenError(problems)

    async def apply(self, ports: Sequence[Port]) -> None:
        """Serve `ports` from now on.

        A port with another entry goes on with it, unless that is of another device; what the entry
        leaves as it is, is not touched.
        """
        await self._go_on(ports)
        wanted = {port.name: port for port in ports}
        stale, changed = [], []
        for name, service in self._services.items():
            port = wanted.get(name)
            if not port or service.is_other(port):
                stale.append(service)
            elif service.served.port != port:
                changed.append((service, port))
        # First all that closes: a TCP port may go from one to another.
        await asyncio.gather(
            *(self._stop(service) for service in stale),
            *(service.change(port) for service, port in changed),
        )
        for service, _ in changed:
            await service.start()
        for name, port in wanted.items():
            if name not in self._services:
                service = self._services[name] = self._service(port)
                await service.start()
        await asyncio.gather(*(one.served.device_settled() for one in self._services.values()))
        if self._store and not self._counting:
            self._count()

    def _service(self, port: Port) -> Service:
        return Service(port, self._urgent, self._bounds, self._store)

    def _count(self) -> None:
        """Have the counters in the records of all ports now and then."""
        for service in self._services.values():
            service.count()
        self._counting = asyncio.get_running_loop().call_later(COUNT_SECONDS, self._count)

    async def _go_on(self, ports: Sequence[Port]) -> None:
        """Let ports go on from an earlier process, with the entries that they had there."""
        inherited, self._inherited = self._inherited, None
        if inherited:
            for port, record, descriptors in inherited.share_out(ports):
                await self._resume(port, record, descriptors)
                inherited.close(descriptors)

    async def _resume(self, port: Port, record: PortState, descriptors: dict[str, int]) -> None:
        service = self._services[port.name] = self._service(port)
        try:
            await service.resume(record, descriptors)
        except Exception:  # a port that fails must not cost the others their clients
            log.exception("%s: hand-over failed, clients are disconnected", port.name)
            await service.stop()
            del self._services[port.name]

    async def leave(self) -> dict[str, PortState]:
        """Stop, but close nothing; return the record of each port by its name.

        The descriptors that the next process needs are in the store.
        """
        if self._counting:
            self._counting.cancel()
        services = self._services.values()
        # A stuck device keeps its own clients waiting only: those of the other ports are read on.
        busy = [service for service in services if service.is_busy]
        await asyncio.gather(*(service.settle() for service in busy))
        rest = [service for service in services if service not in busy]
        await asyncio.gather(*(service.settle() for service in rest))
        # Devices are not read from here on: for all of them at once, however slow one port is.
        await asyncio.gather(*(freeze(service.served) for service in services))
        # All in one moment: the next process would repeat what a port did after it.
        return {name: service.leave() for name, service in self._services.items()}

    def abandon(self) -> None:
        """The next process owns what `leave` returned: drop it without writing."""
        for service in self._services.values():
            service.served.clients.abandon()

    async def stop(self) -> None:
        """Stop serving all ports."""
        await self.apply([])
        if self._counting:
            self._counting.cancel()
        self._urgent.close()

    async def _stop(self, service: Service) -> None:
        await service.stop()
        self._services.pop(service.served.port.name, None)  # a stop overtakes a reload
        log.info("%s: no longer served", service.served.port.name)

    def visit(
        self, port_name: str, person: Person, watch: bool, take: bool, replay: int | None
    ) -> tuple[Connection, dict[str, Any]]:
        """Return the connection of a person who comes now, and what the port was before.

        `KeyError`: unknown port. `Refused`: the person cannot come in.
        """
        service = self._services[port_name]
        connection = service.people.visit(person, watch, take, replay)
        return connection, service.status()

    def users(self, port_name: str) -> tuple[str, ...]:
        """Return the `users` of a port. `KeyError`: unknown port."""
        return self._services[port_name].served.port.users

    def kick(self, port_name: str, client: str | None, by: str) -> list[str]:
        """Close a client of a port, or all; return their addresses. `KeyError`: unknown port."""
        return self._services[port_name].served.kick(client, by)

    async def release(self, port_name: str, seconds: float, by: str) -> Release:
        """Give a port's device to another program for a while. `KeyError`: unknown port."""
        served = self._services[port_name].served
        released = served.release(seconds, by)
        await served.device_settled()
        return released

    async def reclaim(self, port_name: str, by: str) -> tuple[bool, str | None]:
        """Take a port's device back; return whether it was away for that, and what is wrong."""
        served = self._services[port_name].served
        was_released = served.reclaim(by)
        await served.device_settled()
        return was_released, served.device_problem

    def summary(self) -> str:
        """One line for `systemctl status`."""
        ports = [service.served for service in self._services.values()]
        present = sum(port.device.is_open for port in ports)
        clients = sum(len(port.clients.inside) for port in ports)
        return f"{len(ports)} ports, {present} devices present, {clients} clients"

    def status(self, person: Person | None = None) -> dict[str, Any]:
        """Everything that `ttybridge status --json` shows to a person; else to administrators.

        What a person may not see is not looked at: it takes no time from the ports.
        """
        seen = [
            service.status()
            for service in self._services.values()
            if person is None or person.may_see(service.served.port.users)
        ]
        return {"pid": os.getpid(), "ports": seen}
