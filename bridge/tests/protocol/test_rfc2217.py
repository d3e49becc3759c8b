"""RFC 2217's messages: what a client asks for, and what it is answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttybridge.protocol import rfc2217, telnet
from ttybridge.protocol.rfc2217 import (
    CD,
    CTS,
    DELTA_CD,
    DELTA_CTS,
    DELTA_DSR,
    DSR,
    RI,
    TRAILING_RI,
    Poll,
    Purge,
    Request,
    Resume,
    SetControl,
    SetFlow,
    SetLine,
    SetMask,
    Signature,
    Suspend,
)


@pytest.mark.parametrize(
    ("payload", "request_"),
    [
        (b"\x00", Signature(b"")),
        (b"\x00pyserial", Signature(b"pyserial")),
        (b"\x01\x00\x00\x00\x00", SetLine("baudrate", None)),
        (b"\x01\x00\x00\x25\x80", SetLine("baudrate", 9600)),
        (b"\x01\x00\x2d\xc6\xc0", SetLine("baudrate", 3_000_000)),
        (b"\x01\xff\xff\xff\xff", SetLine("baudrate", 0xFFFFFFFF)),
        (b"\x02\x00", SetLine("bytesize", None)),
        *((bytes((2, size)), SetLine("bytesize", size)) for size in (5, 6, 7, 8)),
        (b"\x03\x00", SetLine("parity", None)),
        (b"\x03\x01", SetLine("parity", "none")),
        (b"\x03\x02", SetLine("parity", "odd")),
        (b"\x03\x03", SetLine("parity", "even")),
        (b"\x03\x04", SetLine("parity", "mark")),
        (b"\x03\x05", SetLine("parity", "space")),
        (b"\x04\x00", SetLine("stopbits", None)),
        (b"\x04\x01", SetLine("stopbits", 1)),
        (b"\x04\x02", SetLine("stopbits", 2)),
        (b"\x04\x03", SetLine("stopbits", 1.5)),
        (b"\x05\x00", SetFlow(None)),
        (b"\x05\x01", SetFlow("none")),
        (b"\x05\x02", SetFlow("xonxoff")),
        (b"\x05\x03", SetFlow("rtscts")),
        (b"\x05\x04", SetControl("break", None)),
        (b"\x05\x05", SetControl("break", True)),
        (b"\x05\x06", SetControl("break", False)),
        (b"\x05\x07", SetControl("dtr", None)),
        (b"\x05\x08", SetControl("dtr", True)),
        (b"\x05\x09", SetControl("dtr", False)),
        (b"\x05\x0a", SetControl("rts", None)),
        (b"\x05\x0b", SetControl("rts", True)),
        (b"\x05\x0c", SetControl("rts", False)),
        (b"\x05\x0d", SetFlow(None, inbound=True)),
        (b"\x05\x0e", SetFlow("none", inbound=True)),
        (b"\x05\x0f", SetFlow("xonxoff", inbound=True)),
        (b"\x05\x10", SetFlow("rtscts", inbound=True)),
        # Flow control by DCD, DTR and DSR: asked for what is in force instead.
        (b"\x05\x11", SetFlow(None)),
        (b"\x05\x12", SetFlow(None, inbound=True)),
        (b"\x05\x13", SetFlow(None)),
        (b"\x06", Poll("linestate")),
        (b"\x07", Poll("modemstate")),
        (b"\x07\x00", Poll("modemstate")),
        (b"\x08", Suspend()),
        (b"\x09", Resume()),
        (b"\x0a\x00", SetMask("linestate", 0)),
        (b"\x0a\xff", SetMask("linestate", 255)),
        (b"\x0b\x00", SetMask("modemstate", 0)),
        (b"\x0b\xff", SetMask("modemstate", 255)),
        (b"\x0c\x01", Purge(1)),
        (b"\x0c\x02", Purge(2)),
        (b"\x0c\x03", Purge(3)),
    ],
)
def test_what_a_client_asks_for(payload: bytes, request_: Request) -> None:
    assert rfc2217.parse(payload) == request_


@pytest.mark.parametrize("code", [13, 99, 100, 101, 112, 255])
def test_what_is_no_command_of_a_client_is_none(code: int) -> None:
    assert rfc2217.parse(bytes((code,))) is None
    assert rfc2217.parse(bytes((code, 1, 2, 3, 4))) is None
    assert rfc2217.parse(b"") is None


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x00\x25\x80", b"\x00\x00\x25\x80\x00"])
def test_a_baudrate_of_the_wrong_length_asks_for_the_one_in_force(value: bytes) -> None:
    assert rfc2217.parse(b"\x01" + value) == SetLine("baudrate", None)


@pytest.mark.parametrize("value", [b"", b"\x05\x05", b"\x01\x01\x01\x01", b"\x80", b"\xff"])
@pytest.mark.parametrize(
    ("code", "query"),
    [
        (2, SetLine("bytesize", None)),
        (3, SetLine("parity", None)),
        (4, SetLine("stopbits", None)),
        (5, SetFlow(None)),
        (12, Purge(0)),
    ],
)
def test_a_wrong_length_or_an_unknown_value_asks_for_what_is_in_force(
    code: int, query: Request, value: bytes
) -> None:
    expected = Purge(value[0]) if code == 12 and len(value) == 1 else query
    assert rfc2217.parse(bytes((code,)) + value) == expected


@pytest.mark.parametrize("value", [b"", b"\x01\x02"])
def test_a_mask_of_the_wrong_length_asks_for_the_one_in_force(value: bytes) -> None:
    assert rfc2217.parse(b"\x0a" + value) == SetMask("linestate", None)
    assert rfc2217.parse(b"\x0b" + value) == SetMask("modemstate", None)


@pytest.mark.parametrize(
    ("code", "received", "unsent"),
    [(0, False, False), (1, True, False), (2, False, True), (3, True, True), (9, False, False)],
)
def test_what_a_purge_discards(code: int, received: bool, unsent: bool) -> None:
    assert (Purge(code).received, Purge(code).unsent) == (received, unsent)


@given(
    st.binary(max_size=8)
    | st.tuples(st.integers(0, 14), st.binary(max_size=6)).map(
        lambda both: bytes((both[0],)) + both[1]
    )
)
def test_whatever_a_client_says_has_an_answer_or_none(payload: bytes) -> None:
    request = rfc2217.parse(payload)
    assert (request is not None) == (payload[:1] != b"" and payload[0] <= 12)


@pytest.mark.parametrize(
    ("answer", "payload"),
    [
        (rfc2217.signature("ttybridge"), b"\x64ttybridge"),
        (rfc2217.line_setting("baudrate", 115200), b"\x65\x00\x01\xc2\x00"),
        (rfc2217.line_setting("baudrate", 0xFFFF), b"\x65\x00\x00\xff\xff"),
        (rfc2217.line_setting("bytesize", 7), b"\x66\x07"),
        (rfc2217.line_setting("parity", "none"), b"\x67\x01"),
        (rfc2217.line_setting("parity", "space"), b"\x67\x05"),
        (rfc2217.line_setting("stopbits", 1), b"\x68\x01"),
        (rfc2217.line_setting("stopbits", 1.0), b"\x68\x01"),
        (rfc2217.line_setting("stopbits", 2.0), b"\x68\x02"),
        (rfc2217.line_setting("stopbits", 1.5), b"\x68\x03"),
        (rfc2217.flow("none", inbound=False), b"\x69\x01"),
        (rfc2217.flow("xonxoff", inbound=False), b"\x69\x02"),
        (rfc2217.flow("rtscts", inbound=False), b"\x69\x03"),
        (rfc2217.flow("none", inbound=True), b"\x69\x0e"),
        (rfc2217.flow("rtscts", inbound=True), b"\x69\x10"),
        (rfc2217.control("break", on=True), b"\x69\x05"),
        (rfc2217.control("break", on=False), b"\x69\x06"),
        (rfc2217.control("dtr", on=True), b"\x69\x08"),
        (rfc2217.control("dtr", on=False), b"\x69\x09"),
        (rfc2217.control("rts", on=True), b"\x69\x0b"),
        (rfc2217.control("rts", on=False), b"\x69\x0c"),
        (rfc2217.notify("linestate", 16), b"\x6a\x10"),
        (rfc2217.notify("modemstate", 255), b"\x6b\xff"),
        (rfc2217.mask("linestate", 0), b"\x6e\x00"),
        (rfc2217.mask("modemstate", 255), b"\x6f\xff"),
        (rfc2217.purged(3), b"\x70\x03"),
    ],
)
def test_what_a_client_is_answered(answer: bytes, payload: bytes) -> None:
    assert answer == payload


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (rfc2217.notify("modemstate", 255), b"\xff\xfa\x2c\x6b\xff\xff\xff\xf0"),
        (rfc2217.mask("linestate", 255), b"\xff\xfa\x2c\x6e\xff\xff\xff\xf0"),
        (
            rfc2217.line_setting("baudrate", 0xFF00FF),
            b"\xff\xfa\x2c\x65\x00\xff\xff\x00\xff\xff\xff\xf0",
        ),
        (rfc2217.purged(255), b"\xff\xfa\x2c\x70\xff\xff\xff\xf0"),
    ],
)
def test_a_byte_of_255_is_doubled(payload: bytes, sent: bytes) -> None:
    assert telnet.subnegotiation(telnet.COM_PORT, payload) == sent


@pytest.mark.parametrize(
    ("before", "now", "state"),
    [
        (0, 0, 0),
        (CTS | CD, CTS | CD, CTS | CD),
        (0, CTS, CTS | DELTA_CTS),
        (CTS, 0, DELTA_CTS),
        (0, DSR, DSR | DELTA_DSR),
        (DSR, 0, DELTA_DSR),
        (0, CD, CD | DELTA_CD),
        (CD, 0, DELTA_CD),
        # Of the ring indicator only the end is told.
        (0, RI, RI),
        (RI, 0, TRAILING_RI),
        (RI, RI | CTS, RI | CTS | DELTA_CTS),
        (CTS | DSR | RI | CD, 0, DELTA_CTS | DELTA_DSR | TRAILING_RI | DELTA_CD),
        # Bits that are no lines make no difference.
        (15, CTS | 15, CTS | DELTA_CTS),
    ],
)
def test_the_modem_state_says_what_is_and_what_has_changed(
    before: int, now: int, state: int
) -> None:
    assert rfc2217.modemstate(now, before) == state
