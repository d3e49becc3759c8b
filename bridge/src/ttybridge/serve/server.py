"""All ports of the daemon: started, reloaded, handed over, asked."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from ttybridge.model.ports import Port
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve.handover import Inheritance, freeze
from ttybridge.serve.service import Service
from ttybridge.serve.state import PortState

log = logging.getLogger(__name__)


class ListenError(Exception):
    """No port can be served; the message says why for each."""


class Server:
    """All ports of the daemon."""

    def __init__(self, inherited: Inheritance | None = None) -> None:
        self._inherited = inherited
        self._services: dict[str, Service] = {}
        self._urgent = FullModeWatch()

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
        """Serve `ports` from now on; ports with the same entry and device are not touched."""
        wanted = {port.name: port for port in ports}
        stale = [
            service
            for name, service in self._services.items()
            if service.served.port != wanted.get(name) or service.served.device.is_another()
        ]
        await asyncio.gather(*(self._stop(service) for service in stale))
        inherited = self._inherited.share_out(ports) if self._inherited else {}
        self._inherited = None
        for name, port in wanted.items():
            if name not in self._services:
                service = self._services[name] = Service(port, self._urgent)
                if name not in inherited:
                    await service.start()
                elif not await self._resume(service, *inherited[name]):
                    service = self._services[name] = Service(port, self._urgent)
                    await service.start()

    async def _resume(
        self, service: Service, record: PortState, descriptors: dict[str, int]
    ) -> bool:
        """Let a port go on from an earlier process; return whether it could."""
        try:
            await service.resume(record, descriptors)
        except Exception:  # a port that fails must not cost the others their clients
            name = service.served.port.name
            log.exception("%s: hand-over failed, clients are disconnected", name)
            await service.stop()
            return False
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)
        return True

    async def leave(self) -> tuple[dict[str, PortState], dict[str, int]]:
        """Stop, but close nothing; return what the next process needs.

        That is the record of each port by its name, and the descriptors by their names.
        """
        services = self._services.values()
        await asyncio.gather(*(service.settle() for service in services))
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
