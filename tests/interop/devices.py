"""What is at the far end of a cable: devices that answer, and those that only talk."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable, Iterator

from .cable import Cable

Answer = Callable[[bytes], bytes | None]
"""What a device says to all that it has heard since it spoke last; None: it waits for more."""

VERSION = b"Version 16.9"


@contextlib.contextmanager
def device(cable: Cable, answer: Answer) -> Iterator[None]:
    """A device for the length of a block."""
    ended = threading.Event()

    def run() -> None:
        heard = b""
        while not ended.is_set():
            heard += cable.heard(seconds=0.05)
            said = answer(heard)
            if said is not None:
                heard = b""
                cable.write(said)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def console(heard: bytes) -> bytes | None:
    """A switch whose console needs no password; it ends a line with CR or LF."""
    if not heard.endswith((b"\r", b"\n")):
        return None
    said = VERSION if b"show version" in heard else b""
    return heard.strip() + b"\r\n" + said + b"\r\ncore-switch#"


def receiver(_heard: bytes) -> bytes:
    """A satellite receiver, which talks without being asked: NMEA 0183."""
    body = b"GPRMC,120000.00,A,4807.0380,N,01131.0000,E,0.0,0.0,281126,,,A"
    return b"$%b*%02X\r\n" % (body, _xor(body))


def _xor(data: bytes) -> int:
    result = 0
    for byte in data:
        result ^= byte
    return result


REGISTERS = [42, 0xFFFF]
"""What the Modbus device holds; 0xFF is the byte that telnet would escape."""


def modbus(heard: bytes) -> bytes | None:
    """Unit 1 on a Modbus RTU bus, which is asked for its first two holding registers."""
    if heard != _with_crc(b"\x01\x03\x00\x00\x00\x02"):
        return None
    return _with_crc(b"\x01\x03\x04" + struct.pack(">2H", *REGISTERS))


def _with_crc(frame: bytes) -> bytes:
    """A frame as it is on the bus (Modbus over serial line 1.02, 6.2.2)."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return frame + struct.pack("<H", crc)


class Optiboot:
    """The bootloader of an ATmega328P: the part of STK500 (Atmel AVR061) that avrdude uses."""

    def __init__(self) -> None:
        self.flash = bytearray(b"\xff" * 32768)
        self._address = 0

    def __call__(self, heard: bytes) -> bytes | None:
        """Answer a command, which ends with a space; no test writes a space to the flash."""
        if not heard.endswith(b" "):
            return None
        return b"\x14" + self._do(heard[:1], heard[1:-1]) + b"\x10"

    def _do(self, command: bytes, data: bytes) -> bytes:
        if command == b"u":  # read the signature
            return b"\x1e\x95\x0f"
        if command == b"U":  # load an address, in words
            self._address = 2 * int.from_bytes(data, "little")
        if command in (b"d", b"t"):  # write, read a page
            size = int.from_bytes(data[:2], "big")
            page = slice(self._address, self._address + size)
            if command == b"t":
                return bytes(self.flash[page])
            self.flash[page] = data[3:]
        # One byte answers "get a parameter" and "any SPI command".
        return b"\x03" if command in (b"A", b"V") else b""


class Esp8266:
    """The loader in the ROM of an ESP8266, and the stub that esptool uploads to it."""

    MAC = "60:01:94:aa:bb:cc"
    _REGISTERS = {
        0x40001000: 0xFFF0C101,  # which chip
        0x60000014: 451,  # the divider of its UART: 26 MHz at 115200 baud
        0x3FF00050: 0xCC000000,  # the MAC, in pieces
        0x3FF00054: 0x0000AABB,
        0x3FF0005C: 0x00600194,
    }
    _READ, _SYNC, _START = 0x0A, 0x08, 0x06

    def __call__(self, heard: bytes) -> bytes | None:
        """Answer each frame; a frame is between two bytes 0xC0 (SLIP)."""
        if not heard.endswith(b"\xc0") or heard.count(b"\xc0") % 2:
            return None
        frames = [frame for frame in heard.split(b"\xc0") if len(frame) >= 8]
        return b"".join(self._answer(_unescaped(frame)) for frame in frames)

    def _answer(self, frame: bytes) -> bytes:
        command, value = frame[1], 1
        if command == self._READ:
            value = self._REGISTERS.get(int.from_bytes(frame[8:12], "little"), 0)
        answer = _framed(struct.pack("<BBHI", 1, command, 2, value) + b"\0\0")
        if command == self._START:
            answer += _framed(b"OHAI")
        return answer * (8 if command == self._SYNC else 1)


def _framed(data: bytes) -> bytes:
    return b"\xc0" + data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


def _unescaped(data: bytes) -> bytes:
    return data.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")


def boot_sector() -> bytes:
    """A disk whose program says "guest" at COM1, and then sends back every byte from there."""
    code = [
        "31c0 8ed8 fc",  # ds = 0
        "be2a7c",  # si = the text below, as the BIOS loads this at 0x7c00
        "ac 84c0 740e",  # next: al = [si++]; if al == 0: goto echo
        "baf803 ee",  # write al
        "bafd03 ec a820 74fb",  # until it is sent
        "ebed",  # goto next
        "bafd03 ec a801 74fb",  # echo: until a byte has come
        "baf803 ec ee",  # read and write it
        "ebf1",  # goto echo
    ]
    program = bytes.fromhex("".join(code)) + b"guest\0"
    return program.ljust(510, b"\0") + b"\x55\xaa"
