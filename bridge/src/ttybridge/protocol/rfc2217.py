"""The server's side of COM-PORT-OPTION (RFC 2217): payloads of subnegotiations in and out.

`parse` turns what a client sent into a request. The other functions make the answers, which carry
the current value, whatever the client asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

ANSWER = 100
"""An answer has the code of its command plus this."""


class Code(IntEnum):
    """Commands of the client (RFC 2217, section 3)."""

    SIGNATURE = 0
    SET_BAUDRATE = 1
    SET_DATASIZE = 2
    SET_PARITY = 3
    SET_STOPSIZE = 4
    SET_CONTROL = 5
    NOTIFY_LINESTATE = 6
    NOTIFY_MODEMSTATE = 7
    FLOWCONTROL_SUSPEND = 8
    FLOWCONTROL_RESUME = 9
    SET_LINESTATE_MASK = 10
    SET_MODEMSTATE_MASK = 11
    PURGE_DATA = 12


# Bits of NOTIFY-LINESTATE and NOTIFY-MODEMSTATE.
OVERRUN, PARITY_ERROR, FRAMING_ERROR, BREAK_DETECT = 2, 4, 8, 16
DELTA_CTS, DELTA_DSR, TRAILING_RI, DELTA_CD, CTS, DSR, RI, CD = 1, 2, 4, 8, 16, 32, 64, 128
MODEM_LINES = CTS | DSR | RI | CD

LineSetting = Literal["baudrate", "bytesize", "parity", "stopbits"]
ControlLine = Literal["break", "dtr", "rts"]
Kind = Literal["linestate", "modemstate"]

_PARITIES = {1: "none", 2: "odd", 3: "even", 4: "mark", 5: "space"}
_STOPBITS = {1: 1.0, 2: 2.0, 3: 1.5}
_FLOWS = {1: "none", 2: "xonxoff", 3: "rtscts"}
# SET-CONTROL: (query, on, off) of each line.
_CONTROLS: dict[ControlLine, tuple[int, int, int]] = {
    "break": (4, 5, 6),
    "dtr": (7, 8, 9),
    "rts": (10, 11, 12),
}
# SET-CONTROL counts inbound flow control from 13 as it counts outbound from 0. 17 to 19 mean flow
# control by DCD, DTR or DSR, which Linux ttys cannot do.
_INBOUND = 13
_FLOW_BY_OTHER_LINES = {17: False, 18: True, 19: False}


@dataclass(frozen=True)
class Signature:
    """The client says what it is, or with an empty text asks what the server is."""

    text: bytes


@dataclass(frozen=True)
class SetLine:
    """Sets a line setting, or asks for it (no value). Values are those of the port map."""

    name: LineSetting
    value: int | str | float | None


@dataclass(frozen=True)
class SetFlow:
    """Sets flow control by the port map's words, or asks for it (no value)."""

    value: str | None
    inbound: bool = False


@dataclass(frozen=True)
class SetControl:
    """Sets break, DTR or RTS, or asks for it (no value)."""

    line: ControlLine
    on: bool | None


@dataclass(frozen=True)
class Poll:
    """The client asks for the state of the line or of the modem lines."""

    of: Kind


@dataclass(frozen=True)
class SetMask:
    """Sets which bits of a state the client wants to be told of, or asks for them (None)."""

    of: Kind
    mask: int | None


@dataclass(frozen=True)
class Suspend:
    """Send the client nothing more of the device until `Resume`."""


@dataclass(frozen=True)
class Resume:
    """Send the client what the device says again."""


@dataclass(frozen=True)
class Purge:
    """Discard what waits: bytes from the device, bytes to it, or both."""

    code: int

    @property
    def received(self) -> bool:
        return self.code in (1, 3)

    @property
    def unsent(self) -> bool:
        return self.code in (2, 3)


Request = Signature | SetLine | SetFlow | SetControl | Poll | SetMask | Suspend | Resume | Purge

CHANGES_THE_LINE = (SetLine, SetFlow, SetControl)
"""Requests that wait for the bytes before them."""


def parse(payload: bytes) -> Request | None:
    """Return the request in a client's subnegotiation, None where there is none.

    A value of the wrong length or outside of the RFC's table asks for the current value.
    """
    if not payload or payload[0] not in tuple(Code):
        return None
    code, value = Code(payload[0]), payload[1:]
    octet = value[0] if len(value) == 1 else 0
    match code:
        case Code.SIGNATURE:
            return Signature(value)
        case Code.SET_BAUDRATE:
            baudrate = int.from_bytes(value, "big") if len(value) == 4 else 0
            return SetLine("baudrate", baudrate or None)
        case Code.SET_DATASIZE:
            return SetLine("bytesize", octet if 5 <= octet <= 8 else None)
        case Code.SET_PARITY:
            return SetLine("parity", _PARITIES.get(octet))
        case Code.SET_STOPSIZE:
            return SetLine("stopbits", _STOPBITS.get(octet))
        case Code.SET_CONTROL:
            return _parse_control(octet)
        case Code.NOTIFY_LINESTATE:
            return Poll("linestate")
        case Code.NOTIFY_MODEMSTATE:
            return Poll("modemstate")
        case Code.FLOWCONTROL_SUSPEND:
            return Suspend()
        case Code.FLOWCONTROL_RESUME:
            return Resume()
        case Code.SET_LINESTATE_MASK:
            return SetMask("linestate", octet if len(value) == 1 else None)
        case Code.SET_MODEMSTATE_MASK:
            return SetMask("modemstate", octet if len(value) == 1 else None)
        case Code.PURGE_DATA:
            return Purge(octet)


def _parse_control(octet: int) -> Request:
    for line, (query, on, off) in _CONTROLS.items():
        if octet in (query, on, off):
            return SetControl(line, {on: True, off: False}.get(octet))
    if octet in _FLOW_BY_OTHER_LINES:
        return SetFlow(None, inbound=_FLOW_BY_OTHER_LINES[octet])
    inbound = _INBOUND <= octet <= _INBOUND + max(_FLOWS)
    return SetFlow(_FLOWS.get(octet - _INBOUND if inbound else octet), inbound)


def signature(text: str) -> bytes:
    """Return the answer to `Signature`: what the server is."""
    return _answer(Code.SIGNATURE, text.encode())


def line_setting(name: LineSetting, value: int | str | float) -> bytes:
    """Return the answer to `SetLine`: the current value."""
    match name:
        case "baudrate":
            return _answer(Code.SET_BAUDRATE, int(value).to_bytes(4, "big"))
        case "bytesize":
            return _answer(Code.SET_DATASIZE, bytes([int(value)]))
        case "parity":
            return _answer(Code.SET_PARITY, bytes([_code_of(_PARITIES, value)]))
        case "stopbits":
            return _answer(Code.SET_STOPSIZE, bytes([_code_of(_STOPBITS, value)]))


def flow(value: str, inbound: bool) -> bytes:
    """Return the answer to `SetFlow`: the current flow control."""
    return _answer(
        Code.SET_CONTROL, bytes([_code_of(_FLOWS, value) + (_INBOUND if inbound else 0)])
    )


def control(line: ControlLine, on: bool) -> bytes:
    """Return the answer to `SetControl`: the state of break, DTR or RTS."""
    _, yes, no = _CONTROLS[line]
    return _answer(Code.SET_CONTROL, bytes([yes if on else no]))


def mask(of: Kind, bits: int) -> bytes:
    """Return the answer to `SetMask`: the current mask."""
    code = Code.SET_LINESTATE_MASK if of == "linestate" else Code.SET_MODEMSTATE_MASK
    return _answer(code, bytes([bits]))


def notify(of: Kind, bits: int) -> bytes:
    """Return a notification of the state of the line or of the modem lines."""
    code = Code.NOTIFY_LINESTATE if of == "linestate" else Code.NOTIFY_MODEMSTATE
    return _answer(code, bytes([bits]))


def purged(code: int) -> bytes:
    """Return the answer to `Purge`: it is done."""
    return _answer(Code.PURGE_DATA, bytes([code]))


def modemstate(lines: int, before: int) -> int:
    """Return a modem state: lines as they are now, with what has changed since `before`."""
    changed = (lines ^ before) & MODEM_LINES
    deltas = changed >> 4 & (DELTA_CTS | DELTA_DSR | DELTA_CD)
    if before & RI and not lines & RI:
        deltas |= TRAILING_RI
    return lines & MODEM_LINES | deltas


def _answer(code: Code, value: bytes) -> bytes:
    return bytes([code + ANSWER]) + value


def _code_of(table: dict[int, str] | dict[int, float], value: int | str | float) -> int:
    return next(code for code, meaning in table.items() if meaning == value)
