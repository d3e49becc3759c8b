"""What becomes of the lines of a port: `watch` counts some, `log.journal` sends all to journald."""

from __future__ import annotations

import logging
from typing import Protocol

from ttybridge.line.lines import cut
from ttybridge.model.pattern import Pattern
from ttybridge.model.ports import Port
from ttybridge.model.values import printable
from ttybridge.net.journal import Journal
from ttybridge.serve.state import ClientState, PortState

log = logging.getLogger(__name__)


class Sender(Protocol):
    """As much of a client as a monitor looks at."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> ClientState: ...


class Monitor:
    """Reads along at a port. What has to survive a restart is in the port's state."""

    def __init__(self, port: Port, state: PortState, journal: Journal | None = None) -> None:
        self._port = port
        self._state = state
        self._watch = {name: Pattern(text) for name, text in port.watch.items}
        wants_journal = port.log is not None and port.log.journal
        self._journal = (journal or Journal()) if wants_journal else None
        for name in self._watch:
            state.matches.setdefault(name, 0)
        for name in state.matches.keys() - self._watch.keys():
            del state.matches[name]

    @staticmethod
    def is_wanted(port: Port) -> bool:
        """Whether an entry asks for any of this."""
        return bool(port.watch.items) or (port.log is not None and port.log.journal)

    def device_sent(self, data: bytes) -> None:
        """Read what the device has sent."""
        lines, self._state.unended = cut(self._state.unended + data)
        for line in lines:
            self._match(line)
            self._send(line)

    def client_sent(self, client: Sender, data: bytes) -> None:
        """Read what a client has sent, where the log has that."""
        if not (self._journal and self._port.log and self._port.log.input):
            return
        state = self._state
        person = client.state.person
        who = person.name if person else client.name
        if who != state.unended_by:
            self._end_input()
        lines, state.unended_input = cut(state.unended_input + data)
        state.unended_by = who
        for line in lines:
            self._send(line, who)

    def close(self) -> None:
        """Read no more: what has not ended has ended now."""
        self._end_input()
        if self._state.unended:
            self.device_sent(b"\n")
        self.leave()

    def leave(self) -> None:
        """The next process, or another entry, goes on."""
        if self._journal:
            self._journal.close()

    def _end_input(self) -> None:
        state = self._state
        if state.unended_input:
            lines, state.unended_input = cut(state.unended_input + b"\n")
            for line in lines:
                self._send(line, state.unended_by)

    def _match(self, line: str) -> None:
        for name, pattern in self._watch.items():
            if pattern.is_in(line):
                self._state.matches[name] += 1
                log.warning("%s: watch: %s: %s", self._port.name, name, printable(line))

    def _send(self, line: str, user: str = "") -> None:
        if not self._journal:
            return
        fields = {
            "MESSAGE": _one_line(line),
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": f"ttybridge-{self._port.name}",
            "PORT": self._port.name,
        }
        try:
            self._journal.send({**fields, "USER": _one_line(user)} if user else fields)
        except OSError as error:
            self._state.not_in_journal += 1
            words = "%s: log.journal: lines are lost: %s"
            log.warning(words, self._port.name, error.strerror, extra={"most_a_minute": 1})


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")
