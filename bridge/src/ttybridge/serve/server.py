"""All ports of the daemon: started, reloaded, handed over, asked."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from ttybridge.model.ports import Port
from ttybridge.net.trueport import FullModeWatch
from ttybridge.serve.handover import PortLeft, Predecessor
from ttybridge.serve.listeners import Dialer, Link, Listener

log = logging.getLogger(__name__)


class ListenError(Exception):
    """No port can be served; the message says why for each."""


class Server:
    """All ports of the daemon."""

    def __init__(self, predecessor: Predecessor | None = None) -> None:
        self._predecessor = predecessor
        self._links: dict[str, Link] = {}
        self._urgent = FullModeWatch()

    async def start(self, ports: Sequence[Port]) -> None:
        """Serve `ports`; on return each listens, or its fault is logged and it is tried again.

        Raises `ListenError` where there are ports and not one of them can listen.
        """
        await self.apply(ports)
        links = self._links.values()
        if links and not any(link.is_open or link.served.port.connect for link in links):
            problems = "\n".join(f"{name}: {one.problem}" for name, one in self._links.items())
            await self.stop()
            raise ListenError(problems)

    async def apply(self, ports: Sequence[Port]) -> None:
        """Serve `ports` from now on; a port whose entry and device are the same is not touched."""
        wanted = {port.name: port for port in ports}
        stale = [
            link
            for name, link in self._links.items()
            if link.served.port != wanted.get(name) or link.served.device.is_another()
        ]
        await asyncio.gather(*(self._stop(link) for link in stale))
        left = self._predecessor.share_out(ports) if self._predecessor else {}
        self._predecessor = None
        for name, port in wanted.items():
            if name not in self._links:
                link = self._links[name] = self._link(port)
                if name not in left:
                    await link.start()
                    link.served.open_device()
                elif not await self._resume(link, *left[name]):
                    link = self._links[name] = self._link(port)
                    await link.start()
                    link.served.open_device()

    async def _resume(self, link: Link, left: PortLeft, descriptors: dict[str, int]) -> bool:
        """Return whether a port could go on where a predecessor was."""
        try:
            await link.resume(left, descriptors)
        except Exception:  # what one port cannot take up must not cost the others
            log.exception("%s: clients are not kept", link.served.port.name)
            await link.stop()
            return False
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)
        return True

    async def leave(self) -> tuple[dict[str, PortLeft], dict[str, int]]:
        """Stop, with all open: what a successor needs of each port, and the descriptors by name."""
        links = self._links.values()
        await asyncio.gather(*(link.settle() for link in links))
        # Devices are not read from here on: for all of them at once, however slow one port is.
        await asyncio.gather(*(link.served.freeze() for link in links))
        # All in one moment: what a port did after it, a successor would do again.
        left = [link.left(place) for place, link in enumerate(links)]
        descriptors = {name: number for _, each in left for name, number in each.items()}
        return dict(zip(self._links, (port for port, _ in left), strict=True)), descriptors

    def abandon(self) -> None:
        """What `leave` returned is a successor's now: send nothing more that it sends, too."""
        for link in self._links.values():
            link.served.abandon()

    async def stop(self) -> None:
        """Stop serving all ports."""
        await self.apply([])
        self._urgent.close()

    def _link(self, port: Port) -> Link:
        if port.listeners:
            return Listener(port, port.listeners[0].at, self._urgent)
        assert port.connect  # the port map has one of the two
        return Dialer(port, port.connect, self._urgent)

    async def _stop(self, link: Link) -> None:
        await link.stop()
        self._links.pop(link.served.port.name, None)  # a stop overtakes a reload
        log.info("%s: no longer served", link.served.port.name)

    def kick(self, port: str, client: str | None) -> list[str]:
        """Close a client of a port, or all of them; return whom. `KeyError` for an unknown port."""
        return self._links[port].served.kick(client)

    def summary(self) -> str:
        """One line for `systemctl status`."""
        ports = [link.served for link in self._links.values()]
        present = sum(port.device.is_open for port in ports)
        clients = sum(len(port.clients) for port in ports)
        return f"{len(ports)} ports, {present} devices present, {clients} clients"

    def status(self) -> dict[str, Any]:
        """Everything that `ttybridge status --json` shows."""
        return {"pid": os.getpid(), "ports": [link.status() for link in self._links.values()]}
