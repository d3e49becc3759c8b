"""Serial adapters and the devices at their far ends, as a program on a container Pi.

    python3 far_end.py NAME=SIZE...

plugs in /dev/serial/by-name/NAME: a pty. Its device sends pieces of so many bytes of a stream, and
checks the stream that it gets. It begins when it first hears something after it was plugged in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tty
from pathlib import Path
from typing import Any

from ends import INTERVAL_SECONDS, answer, to_client, to_device
from stream import Receipt, piece

BY_NAME = Path("/dev/serial/by-name")


class Adapter:
    """An adapter, plugged in or not, and its device."""

    def __init__(self, name: str, size: int, folder: Path = BY_NAME) -> None:
        self.held = False
        """Whether the device is silent for now."""
        self._link = folder / name
        self._stream, self._size = to_client(name), size
        self._sent = 0
        self._heard = Receipt(to_device(name))
        self._far = self._near = -1
        self._hears = False

    def plug(self) -> None:
        """Make a pty, and give it its name."""
        # Keep the near end open: else the far end sees EIO until the daemon has opened it.
        self._far, self._near = os.openpty()
        tty.setraw(self._near)
        os.set_blocking(self._far, False)
        place = os.ttyname(self._near)
        if os.geteuid() == 0:
            shutil.chown(place, group="dialout")
        os.chmod(place, 0o660)
        self._link.parent.mkdir(parents=True, exist_ok=True)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(place)
        asyncio.get_running_loop().add_reader(self._far, self._read)

    def unplug(self) -> None:
        """Take it all away."""
        asyncio.get_running_loop().remove_reader(self._far)
        self._link.unlink()
        os.close(self._far)
        os.close(self._near)
        self._far = self._near = -1
        self._hears = False

    def begin(self) -> None:
        """Measure pauses from now on."""
        self._heard.begin()

    def report(self) -> dict[str, Any]:
        """How far both streams are, and what became of the one to the device."""
        return {"sent": self._sent, "received": self._heard.report()}

    async def speak(self) -> None:
        """Send the stream for ever; what the line does not take now it gets later."""
        while True:
            if self._hears and not self.held:
                with contextlib.suppress(BlockingIOError):
                    data = piece(self._stream, self._sent, self._size)
                    self._sent += os.write(self._far, data)
            await asyncio.sleep(INTERVAL_SECONDS)

    def _read(self) -> None:
        self._hears = True
        self._heard.receive(os.read(self._far, 65536))


class Adapters:
    """All adapters of a Pi, as commands."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self._adapters = {name: Adapter(name, size) for name, size in sizes.items()}

    async def report(self) -> dict[str, Any]:
        """The report of each device, by name."""
        return {name: adapter.report() for name, adapter in self._adapters.items()}

    async def begin(self) -> dict[str, Any]:
        """Measure pauses from now on."""
        for adapter in self._adapters.values():
            adapter.begin()
        return {}

    async def hold(self, name: str, held: bool) -> dict[str, Any]:
        """Make a device silent, or let it go on."""
        self._adapters[name].held = held
        return {}

    async def plug(self, name: str) -> dict[str, Any]:
        """Plug an adapter in."""
        self._adapters[name].plug()
        return {}

    async def unplug(self, name: str) -> dict[str, Any]:
        """Pull an adapter out."""
        self._adapters[name].unplug()
        return {}

    async def run(self) -> None:
        """Plug all in, and do commands until there are no more."""
        for adapter in self._adapters.values():
            adapter.plug()
        speaking = [asyncio.create_task(each.speak()) for each in self._adapters.values()]
        await answer(
            {
                "report": self.report,
                "begin": self.begin,
                "hold": self.hold,
                "plug": self.plug,
                "unplug": self.unplug,
            }
        )
        for task in speaking:
            task.cancel()


if __name__ == "__main__":
    words = (word.split("=") for word in sys.argv[1:])
    asyncio.run(Adapters({name: int(size) for name, size in words}).run())
