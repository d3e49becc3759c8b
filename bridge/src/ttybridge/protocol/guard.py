"""Recognizes clients of other kinds of servers by their first bytes.

A web page can make a visitor's browser send a request to any TCP port that the browser reaches. A
console would take the request for typed input. Bytes in, words out; no sockets.
"""

from __future__ import annotations

import re

# `METHOD TARGET HTTP/1.1`, with the end of the line; also how HTTP/2 begins (RFC 9113, 3.4).
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_REQUEST_LINE = re.compile(
    rb"(?:\r?\n)*" + _TOKEN + rb"+ [!-~\x80-\xff]+ HTTP/[0-9](?:\.[0-9])?\r?\n"
)

# A page chooses the length of its target, so the line may end only in a later read. What people
# type or paste has its spaces and its Return much sooner.
_LONG = 256
_LONG_REQUEST_LINE = re.compile(
    rb"(?:\r?\n)*" + _TOKEN + rb"{1,32} (?:/|\*|[A-Za-z][A-Za-z0-9+.-]*://)[!-~\x80-\xff]*"
    rb"(?: H?T?T?P?/?[0-9]?\.?[0-9]?\r?)?"
)

# Bytes of a read that are examined.
_ENOUGH = 16384

# How a client of SSH begins (RFC 4253, 4.2).
_SSH = re.compile(rb"SSH-[0-9]\.[0-9]+-[!-~]")

# A TLS record with the head of a ClientHello in it (RFC 8446, 4.1.2 and 5.1), up to the version
# inside. The shortest ClientHello has a random number, one cipher and one compression.
_HELLO_HEAD = 11
_MESSAGE_HEADER = 4
_SHORTEST_HELLO = 41


def stranger(data: bytes) -> str | None:
    """Return what kind of client sends such first bytes, in words; None for a serial client."""
    data = data[:_ENOUGH]
    if _REQUEST_LINE.match(data):
        return "an HTTP request"
    if len(data) >= _LONG and _LONG_REQUEST_LINE.fullmatch(data):
        return "a long HTTP request"
    if _is_client_hello(data):
        return "a TLS handshake"
    if _SSH.match(data):
        return "an SSH client"
    return None


def _is_client_hello(data: bytes) -> bool:
    """Whether data begin with a ClientHello.

    Its two lengths must agree: one or two frames of Modbus RTU can match all other bytes.
    """
    if len(data) < _HELLO_HEAD or data[:2] != b"\x16\x03" or data[5] != 1 or data[9] != 3:
        return False
    record, message = int.from_bytes(data[3:5]), int.from_bytes(data[6:9])
    versions_are_known = data[2] <= 4 and data[10] <= 4
    agree = message + _MESSAGE_HEADER == record
    return versions_are_known and agree and message >= _SHORTEST_HELLO
