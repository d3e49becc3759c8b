"""The interactive console: `ttybridge console`, on the client's side of the control socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ttybridge import terminal
from ttybridge.chooser import Item, choose
from ttybridge.daemon import control
from ttybridge.model import people
from ttybridge.model.ports import about
from ttybridge.model.values import duration, printable
from ttybridge.protocol import console as frames

ESCAPE = b"\x1d"  # Ctrl-]

QUIT = b"quit"
HELP = b"help"

# What follows the escape key: a request to the daemon, or something that the program does itself.
_COMMANDS = {
    b"q": (QUIT, "quit"),
    b"b": (frames.BREAK, "send a break"),
    b"w": (frames.WHO, "who else is here"),
    b"t": (frames.TAKE_OVER, "take over: you write, whoever did so before"),
    b"v": (frames.WATCH, "only watch"),
    b"i": (frames.WRITE, "write again, if there is room"),
    b"r": (frames.AGAIN, "show again what the device said last"),
    b"?": (HELP, "this help"),
}

# Bytes of the person's input that wait for the daemon before no more is read.
_MUCH = 65536


class Keyboard:
    """Tells what is for the device from what follows the escape key."""

    def __init__(self) -> None:
        self._escaped = False

    def typed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield pairs: DATA with bytes for the device, or a command with the key that was it."""
        while data:
            if self._escaped:
                self._escaped = False
                key, data = data[:1].lower(), data[1:]
                if key == ESCAPE:
                    yield frames.DATA, ESCAPE
                else:
                    yield _COMMANDS.get(key, (HELP, ""))[0], key
                continue
            text, escape, data = data.partition(ESCAPE)
            self._escaped = bool(escape)
            if text:
                yield frames.DATA, text


class Session:
    """A person, or a script, at a port; `timeout` in seconds of silence, None for none."""

    def __init__(self, sock: socket.socket, received: bytes, timeout: float | None) -> None:
        self._sock = sock
        self._frames = frames.Frames()
        self._received = received
        self._timeout = timeout
        self._keyboard = Keyboard() if os.isatty(0) else None
        self._unsent = bytearray()
        self._input_ended = False
        self._at_line_start = True
        self._colours = False
        """Whether the device has sent what changes the terminal's colours or cursor."""
        self._result: int | None = None
        self._heard_at = time.monotonic()

    def run(self) -> int:
        """Return the exit status: 0, or 1 if the daemon has ended the session."""
        self._sock.setblocking(False)
        self._take(self._received)
        try:
            while self._result is None:
                self._turn()
        finally:
            self._tidy_up()
        return self._result

    def _turn(self) -> None:
        readers: list[Any] = [self._sock]
        if not self._input_ended and len(self._unsent) < _MUCH:
            readers.append(0)
        writers = [self._sock] if self._unsent else []
        ready, free, _ = select.select(readers, writers, [], self._remaining())
        if free:
            self._send()
        if self._sock in ready:
            self._receive()
        if 0 in ready and self._result is None:
            self._read()
        if self._remaining() == 0 and self._result is None:
            self._result = 0

    def _remaining(self) -> float | None:
        """Seconds of silence that are left; None if they do not count."""
        if self._timeout is None or not self._input_ended or self._unsent:
            return None
        return max(0.0, self._heard_at + self._timeout - time.monotonic())

    # From the person.

    def _read(self) -> None:
        try:
            data = os.read(0, 4096)
        except OSError:  # the terminal has gone
            data = b""
        if not data:
            self._end_input()
        elif self._keyboard:
            for command, key in self._keyboard.typed(data):
                self._obey(command, key)
        else:
            self._put(frames.DATA, data)

    def _end_input(self) -> None:
        self._input_ended = True
        self._heard_at = time.monotonic()
        if self._keyboard:
            self._result = 1
        elif self._timeout is None and not self._unsent:
            self._finish()

    def _finish(self) -> None:
        """Say that no more comes: the daemon closes after the answer, as for `nc -N`."""
        with contextlib.suppress(OSError):  # it has left already
            self._sock.shutdown(socket.SHUT_WR)

    def _obey(self, command: bytes, key: bytes) -> None:
        if command == QUIT:
            self._result = 0
        elif command == HELP:
            self._help()
        else:
            self._put(command, key if command == frames.DATA else b"")

    def _help(self) -> None:
        lines = [f"Ctrl-] {key.decode()}  {words}" for key, (_, words) in _COMMANDS.items()]
        self._say("\n".join([*lines, "Ctrl-] Ctrl-]  send Ctrl-] itself"]))

    def _put(self, kind: bytes, content: bytes) -> None:
        self._unsent += frames.frame(kind, content)
        self._send()

    def _send(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:  # the daemon has closed; what it said before is still to be read
            self._unsent.clear()
        if not self._unsent and self._input_ended:
            self._heard_at = time.monotonic()
            if self._timeout is None:
                self._finish()

    # From the daemon.

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data:
            self._take(data)
        elif self._input_ended:
            self._result = 0
        else:
            self._say("the session has ended")
            self._result = 1

    def _take(self, data: bytes) -> None:
        try:
            received = self._frames.receive(data)
        except frames.FrameError:
            self._say("a part of what the device said is lost: the daemon was killed")
            self._result = 1
            return
        for kind, content in received:
            match kind:
                case frames.DATA:
                    self._show(content)
                case frames.NOTICE:
                    self._say(content.decode(errors="replace"))
                case frames.STATUS:
                    self._say(status_words(json.loads(content)))
                case frames.END:
                    self._say(content.decode(errors="replace"))
                    self._result = 1

    # To the person.

    def _show(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        self._at_line_start = data.endswith(b"\n")
        self._colours = self._colours or b"\x1b" in data
        terminal.write(1, data)

    def _say(self, words: str) -> None:
        text = printable(words.replace("\r\n", "\n").strip("\n"))
        if not self._keyboard:
            print(f"ttybridge: {text}", file=sys.stderr)
            return
        begin = "" if self._at_line_start else "\r\n"
        lines = text.replace("\n", "\r\n")
        terminal.write(2, f"{begin}[ttybridge: {lines}]\r\n".encode())
        self._at_line_start = True

    def _tidy_up(self) -> None:
        """Take back colours, and show the cursor again."""
        if self._keyboard and self._colours and os.isatty(1) and os.environ.get("TERM") != "dumb":
            with contextlib.suppress(OSError):  # the terminal has gone
                terminal.write(1, b"\x1b[0m\x1b[?25h")

    def greet(self, port: dict[str, Any]) -> None:
        """Say where a person is, and how to leave."""
        if self._keyboard:
            self._say(f"{status_words(port)}\nCtrl-] q quits, Ctrl-] ? helps")


def status_words(port: dict[str, Any]) -> str:
    """A port in words: its device, its line and its clients."""
    device = port["device"]
    where = str(device["path"])
    if device["present"]:
        where += f", {_line_words(port['line_settings'])}"
    here = [_client_words(client) for client in port["clients"]] or ["nobody is here"]
    problem = [device["problem"]] if device["problem"] else []
    return "\n".join([f"{port['name']}: {where}", *problem, *here])


def _line_words(line: dict[str, Any]) -> str:
    """Line settings as people write them, such as `9600 8N1`."""
    if not line:  # the adapter has just gone
        return "no line"
    flow = "" if line["flow"] == "none" else f" {line['flow']}"
    parity = str(line["parity"])[:1].upper()
    return f"{line['baudrate']} {line['bytesize']}{parity}{line['stopbits']:g}{flow}"


def _client_words(client: dict[str, Any]) -> str:
    does = "waits" if client["waits"] else "writes" if client["writes"] else "watches"
    how = people.way(client["by"], client["from"]) if client["person"] else ""
    way = f", {how}" if how else ""
    return f"{client['address']}{way}, for {duration(client['connected_for'])}: {does}"


def run(
    path: Path,
    port: str | None,
    timeout: float | None,
    **wishes: bool | int | None,
) -> int:
    """Let a person, or a script, use a port; return the exit status.

    `wishes` are those of the request: watch, take, replay. Raises `control.ControlError` where the
    daemon cannot be asked or refuses.
    """
    with terminal.raw(0) if os.isatty(0) else contextlib.nullcontext():
        name = port or _choose(path)
        if name is None:
            return 0
        if not os.isatty(0) and wishes.get("replay") is None:
            wishes["replay"] = 0  # a script wants the answer to its own command
        sock, answer, rest = control.begin(path, "console", port=name, **wishes)
        with sock:
            session = Session(sock, rest, timeout)
            session.greet(answer["port"])
            return session.run()


def _choose(path: Path) -> str | None:
    """Return the port that a person chooses, the only one where there is one."""
    ports = control.ask(path, "status")["ports"]
    names = [port["name"] for port in ports]
    if not names:
        raise control.ControlError("there is no port that you may use")
    if len(names) == 1:
        return str(names[0])
    if not os.isatty(0):
        raise control.ControlError(f"say which port: {', '.join(names)}")
    return choose([Item(port["name"], _item_words(port)) for port in ports], 0, 2)


def _item_words(port: dict[str, Any]) -> str:
    words = about(port.get("description", ""), port.get("location", ""), port.get("tags", ()))
    state = [] if port["device"]["present"] else ["no device"]
    state += [client["address"] for client in port["clients"]]
    return f"{words} ({', '.join(state)})".strip() if state else words
