"""All ports of the daemon: started, reloaded, handed over, asked."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from ttybridge.model.ports import Port
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve.bounds import Bounds
from ttybridge.serve.handover import Inheritance, freeze
from ttybridge.serve.service import Service
from ttybridge.serve.state import PortState, Release

log = logging.getLogger(__name__)


class ListenError(Exception):
    """No port can be served; the message says why for each."""


class Server:
    """All ports of the daemon."""

    def __init__(self, inherited: Inheritance | None = None) -> None:
        self._inherited = inherited
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
                service = self._services[name] = Service(port, self._urgent, self._bounds)
                await service.start()

    async def _go_on(self, ports: Sequence[Port]) -> None:
        """Let ports go on from an earlier process, with the entries that they had there."""
        shares = self._inherited.share_out(ports) if self._inherited else []
        self._inherited = None
        for port, record, descriptors in shares:
            await self._resume(port, record, descriptors)

    async def _resume(self, port: Port, record: PortState, descriptors: dict[str, int]) -> None:
        service = self._services[port.name] = Service(port, self._urgent, self._bounds)
        try:
            await service.resume(record, descriptors)
        except Exception:  # a port that fails must not cost the others their clients
            log.exception("%s: hand-over failed, clients are disconnected", port.name)
            await service.stop()
            del self._services[port.name]
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)

    async def leave(self) -> tuple[dict[str, PortState], dict[str, int]]:
        """Stop, but close nothing; return what the next process needs.

        That is the record of each port by its name, and the descriptors by their names.
        """
        services = self._services.values()
        # A stuck device keeps its own clients waiting only: those of the other ports are read on.
        busy = [service for service in services if service.is_busy]
        await asyncio.gather(*(service.settle() for service in busy))
        rest = [service for service in services if service not in busy]
        await asyncio.gather(*(service.settle() for service in rest))
        # Devices are not read from here on: for all of them at once, however slow one port is.
        await asyncio.gather(*(freeze(service.served) for service in services))
        # All in one moment: the next process would repeat what a port did after it.
        parts = [service.leave(place) for place, service in enumerate(services)]
        descriptors = {name: fd for _, each in parts for name, fd in each.items()}
        return dict(zip(self._services, (record for record, _ in parts), strict=True)), descriptors

    def abandon(self) -> None:
        """The next process owns what `leave` returned: drop it without writing."""
        for service in self._services.values():
            service.served.clients.abandon()

    async def stop(self) -> None:
        """Stop serving all ports."""
        await self.apply([])
        self._urgent.close()

    async def _stop(self, service: Service) -> None:
        await service.stop()
        self._services.pop(service.served.port.name, None)  # a stop overtakes a reload
        log.info("%s: no longer served", service.served.port.name)

    def kick(self, port_name: str, client: str | None) -> list[str]:
        """Close a client of a port, or all; return their addresses. `KeyError`: unknown port."""
        return self._services[port_name].served.kick(client)

    def release(self, port_name: str, seconds: float, by: str) -> Release:
        """Give a port's device to another program for a while. `KeyError`: unknown port."""
        return self._services[port_name].served.release(seconds, by)

    def reclaim(self, port_name: str, by: str) -> tuple[bool, str | None]:
        """Take a port's device back; return whether it was away for that, and what is wrong."""
        served = self._services[port_name].served
        return served.reclaim(by), served.problem

    def summary(self) -> str:
        """One line for `systemctl status`."""
        ports = [service.served for service in self._services.values()]
        present = sum(port.device.is_open for port in ports)
        clients = sum(len(port.clients.inside) for port in ports)
        return f"{len(ports)} ports, {present} devices present, {clients} clients"

    def status(self) -> dict[str, Any]:
        """Everything that `ttybridge status --json` shows."""
        return {
            "pid": os.getpid(),
            "ports": [service.status() for service in self._services.values()],
        }
