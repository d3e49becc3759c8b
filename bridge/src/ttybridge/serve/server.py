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
        """Serve `ports`; on return each listens, or its fault is logged and it is tried again.

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
        """Serve `ports` from now on; a port whose entry and device are the same is not touched."""
        wanted = {port.name: port for port in ports}
        stale = [
            service
            for name, service in self._services.items()
            if service.served.port != wanted.get(name) or service.served.device.is_another()
        ]
        await asyncio.gather(*(self._stop(service) for service in stale))
        left = self._inherited.share_out(ports) if self._inherited else {}
        self._inherited = None
        for name, port in wanted.items():
            if name not in self._services:
                service = self._services[name] = Service(port, self._urgent)
                if name not in left:
                    await service.start()
                elif not await self._resume(service, *left[name]):
                    service = self._services[name] = Service(port, self._urgent)
                    await service.start()

    async def _resume(self, service: Service, left: PortState, descriptors: dict[str, int]) -> bool:
        """Return whether a port could go on where a predecessor was."""
        try:
            await service.resume(left, descriptors)
        except Exception:  # what one port cannot take up must not cost the others
            log.exception("%s: clients are not kept", service.served.port.name)
            await service.stop()
            return False
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)
        return True

    async def leave(self) -> tuple[dict[str, PortState], dict[str, int]]:
        """Stop, with all open: what a successor needs of each port, and the descriptors by name."""
        services = self._services.values()
        await asyncio.gather(*(service.settle() for service in services))
        # Devices are not read from here on: for all of them at once, however slow one port is.
        await asyncio.gather(*(freeze(service.served) for service in services))
        # All in one moment: what a port did after it, a successor would do again.
        left = [service.leave(place) for place, service in enumerate(services)]
        descriptors = {name: number for _, each in left for name, number in each.items()}
        return dict(zip(self._services, (port for port, _ in left), strict=True)), descriptors

    def abandon(self) -> None:
        """What `leave` returned is a successor's now: send nothing more that it sends, too."""
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

    def kick(self, port: str, client: str | None) -> list[str]:
        """Close a client of a port, or all of them; return whom. `KeyError` for an unknown port."""
        return self._services[port].served.kick(client)

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
