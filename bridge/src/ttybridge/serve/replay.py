"""The last bytes of a device, in a memory file that outlives the process."""

from __future__ import annotations

import mmap
import os
import struct

# At the beginning: the size of the ring in bytes, and how many bytes have come in all. A file of
# another layout does not begin like this.
_HEAD = struct.Struct("8sQQ")
_MAGIC = b"replay 1"
_BEGIN = 4096


class Replay:
    """A ring of `size` bytes or more.

    It has room for twice as much, so that a kill in the middle of `add` spoils nothing that counts.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        self._room = 2 * size
        self._total = 0
        if descriptor is None:
            self._fd = os.memfd_create("replay")
            os.ftruncate(self._fd, _BEGIN + self._room)
        else:
            self._fd = descriptor
        self._ring = mmap.mmap(self._fd, os.fstat(self._fd).st_size)
        if descriptor is None:
            self._note()

    @classmethod
    def of(cls, descriptor: int) -> Replay:
        """Return what an earlier process has kept; `ValueError` for any other file."""
        head = os.pread(descriptor, _HEAD.size, 0)
        magic, room, total = _HEAD.unpack(head.ljust(_HEAD.size))
        there = os.fstat(descriptor).st_size
        if magic != _MAGIC or there != _BEGIN + room or room < 2:
            raise ValueError("not a replay of ttybridge")
        made = cls(room // 2, descriptor)
        made._total = total
        return made

    @property
    def size(self) -> int:
        """How many bytes it keeps at least."""
        return self._room // 2

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def add(self, data: bytes) -> None:
        """Keep what the device has sent."""
        self._total += len(data)
        kept = data[-self._room // 2 :]
        at = (self._total - len(kept)) % self._room
        first = kept[: self._room - at]
        begin = _BEGIN + at
        self._ring[begin : begin + len(first)] = first
        rest = kept[len(first) :]
        self._ring[_BEGIN : _BEGIN + len(rest)] = rest
        self._note()

    def _note(self) -> None:
        _HEAD.pack_into(self._ring, 0, _MAGIC, self._room, self._total)

    def last(self, size: int) -> bytes:
        """Return the last bytes, at most `size` of them, and at most as many as it keeps."""
        size = min(size, self._total, self._room // 2)
        begin = _BEGIN + (self._total - size) % self._room
        first = self._ring[begin : begin + size]
        return first + self._ring[_BEGIN : _BEGIN + size - len(first)]

    def close(self) -> None:
        """Close it here; it stays where its descriptor is kept."""
        self._ring.close()
        os.close(self._fd)
