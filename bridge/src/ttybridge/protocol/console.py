"""The frames between `ttybridge console` and the daemon: bytes in, frames out.

A frame is a mark, its kind (one byte), the size of its content (four bytes, big endian) and the
content. So nothing that a device says is ever taken for a word of the daemon, and nothing that is
typed or pasted for a request to it. The mark tells when a part of the stream is missing: a daemon
that is killed loses what is in its memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_HEADER = struct.Struct(">3scI")
_MARK = b"\xfety"

# Kinds in both directions: bytes of the device or for it.
DATA = b"d"

# Requests of the program; their content is empty.
BREAK = b"b"
TAKE_OVER = b"t"
WATCH = b"v"
WRITE = b"w"
WHO = b"i"
AGAIN = b"a"

# Words of the daemon: text for the person, the port's status as JSON, why the session ends.
NOTICE = b"n"
STATUS = b"s"
END = b"e"

# The most bytes that a program may put into a frame: the daemon keeps an unfinished one in memory.
MOST = 65536

Frame = tuple[bytes, bytes]


class FrameError(ValueError):
    """The other side does not speak in frames."""


@dataclass
class FrameState:
    """What has come of a frame that is not complete yet."""

    begun: bytearray = field(default_factory=bytearray)


class Frames:
    """Takes frames out of a stream of bytes; `most` is the most bytes that one may hold."""

    def __init__(self, most: int | None = None, state: FrameState | None = None) -> None:
        self._most = most
        self.state = state or FrameState()

    def receive(self, data: bytes) -> list[Frame]:
        """Return the frames that are complete now. Raises `FrameError`."""
        begun = self.state.begun
        begun += data
        frames, start = [], 0
        while len(begun) - start >= _HEADER.size:
            mark, kind, size = _HEADER.unpack_from(begun, start)
            if mark != _MARK:
                raise FrameError("something else than a frame")
            if self._most is not None and size > self._most:
                raise FrameError(f"a frame of {size} bytes")
            end = start + _HEADER.size + size
            if end > len(begun):
                break
            frames.append((kind, bytes(begun[start + _HEADER.size : end])))
            start = end
        del begun[:start]
        return frames


def frame(kind: bytes, content: bytes = b"") -> bytes:
    """Return a frame as it is sent."""
    return _HEADER.pack(_MARK, kind, len(content)) + content
