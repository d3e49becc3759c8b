"""A memory file that outlives the process: what was written last can be read, whole, after a kill.

Its beginning says how many processes have begun to read it. Then there are two places for a record,
which take turns: a kill in the middle of a write leaves the other one.
"""

from __future__ import annotations

import os
import struct
import zlib

# Not read where the layout is another one.
_MAGIC = b"ttybridge record 1".ljust(32)
_TRIES = len(_MAGIC)
_PLACES = (4096, 1 << 30)  # the file is sparse: what is not written takes no memory

# The number of the record, its size in bytes, its CRC-32.
_HEAD = struct.Struct(">QQI")


class MemoryFile:
    """A memory file with one record; `descriptor` is given for one that is there already."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._number = 0
        self._fd = os.memfd_create("ttybridge") if descriptor is None else descriptor
        if descriptor is None:
            os.pwrite(self._fd, _MAGIC + b"\0", 0)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def write(self, record: bytes) -> None:
        """Take the place of the record before the last one."""
        self._number += 1
        head = _HEAD.pack(self._number, len(record), zlib.crc32(record))
        os.pwrite(self._fd, head + record, _PLACES[self._number % 2])

    def read(self) -> bytes | None:
        """Return the last record that is whole; None where there is none."""
        if os.pread(self._fd, len(_MAGIC), 0) != _MAGIC:
            return None
        found = [each for place in _PLACES if (each := self._at(place))]
        return max(found)[1] if found else None

    def _at(self, place: int) -> tuple[int, bytes] | None:
        head = os.pread(self._fd, _HEAD.size, place)
        if len(head) < _HEAD.size:
            return None
        number, size, checksum = _HEAD.unpack(head)
        # A size that is nonsense would take all memory.
        if not number or place + _HEAD.size + size > os.fstat(self._fd).st_size:
            return None
        record = os.pread(self._fd, size, place + _HEAD.size)
        return (number, record) if zlib.crc32(record) == checksum else None

    def begin_to_read(self) -> int:
        """Note that a process begins with this record; return how many have done so in a row."""
        tries = (os.pread(self._fd, 1, _TRIES) or b"\0")[0] + 1
        os.pwrite(self._fd, bytes([min(tries, 255)]), _TRIES)
        return tries

    def close(self) -> None:
        """Close it here; it stays where its descriptor is kept."""
        os.close(self._fd)
