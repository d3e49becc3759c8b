"""Who may use a port: pure decisions, without a clock, a connection or a loop.

A client is anything that can be compared and hashed.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)

# How many candidates may wait to replace the client of a port.
MOST_WAITING = 8


@dataclass(frozen=True)
class Admit(Generic[Who]):
    """The newcomer is in; `leave` will send no more, and make room for it."""

    leave: tuple[Who, ...] = ()


@dataclass(frozen=True)
class Wait(Generic[Who]):
    """The newcomer is a candidate to replace `holder`; the oldest candidates may have to go."""

    holder: Who
    leave: tuple[Who, ...] = ()


@dataclass(frozen=True)
class Refuse(Generic[Who]):
    """There is no room: `holders` hold the port."""

    holders: tuple[Who, ...]


class Sharing(Generic[Who]):
    """The sharing rule of one port and the clients that it has let in.

    `rule` is the port map's `sharing`. With `replace` the newest client wins, but a port scan or a
    health check replaces no client: a candidate waits until it has sent something or has stayed.
    """

    def __init__(self, rule: str, max_clients: int) -> None:
        self._rule = rule
        self._max_clients = max_clients
        self.clients: list[Who] = []
        """Clients that are in, in order of arrival; without watchers."""
        self.waiting: list[Who] = []
        """Candidates, in order of arrival."""
        self.watchers: dict[Who, None] = {}
        """Clients of a listener that only watches, in order of arrival."""
        self._finished: set[Who] = set()

    def change(self, rule: str, max_clients: int) -> None:
        """Use another rule for who comes from now on; who is in stays, and a candidate waits on."""
        self._rule, self._max_clients = rule, max_clients

    @property
    def active(self) -> list[Who]:
        """Clients that may still send something; without watchers."""
        return [who for who in self.clients if who not in self._finished]

    @property
    def is_full(self) -> bool:
        """Whether the port has all the clients that it may have."""
        return len(self.active) >= self._max_clients

    @property
    def has_room(self) -> bool:
        """Whether a newcomer would not be refused."""
        return self._rule == "replace" or not self.is_full

    @property
    def all_write(self) -> bool:
        """Whether all clients may write."""
        return self._rule != "observed"

    @property
    def writer(self) -> Who | None:
        """The one client that may write, if the others only watch."""
        return None if self.all_write else self._first_active()

    def _first_active(self) -> Who | None:
        return next((who for who in self.clients if who not in self._finished), None)

    def may_write(self, who: Who) -> bool:
        """Whether the device takes what a client sends."""
        if who in self.waiting or who in self.watchers:
            return False
        return self.all_write or self._first_active() == who

    def ask(self, who: Who) -> Admit[Who] | Wait[Who] | Refuse[Who]:
        """Let a newcomer in, let it wait, or refuse it."""
        active = self.active
        if active and self._rule == "replace":
            leave = tuple(self.waiting[: max(0, len(self.waiting) + 1 - MOST_WAITING)])
            self.waiting = [other for other in self.waiting if other not in leave] + [who]
            return Wait(active[0], leave)
        if len(active) >= self._max_clients:
            return Refuse(tuple(active))
        leave = self.make_room()
        self.clients.append(who)
        return Admit(leave)

    def watch(self, who: Who, leave: tuple[Who, ...] = ()) -> None:
        """Let a client in that only watches; those of `leave` make room for it."""
        for other in leave:
            self.leave(other)
        self.watchers[who] = None

    def make_room(self) -> tuple[Who, ...]:
        """Remove clients that will send no more, if a newcomer needs a place; return them."""
        too_many = max(0, len(self.clients) + 1 - self._max_clients)
        leave = tuple(who for who in self.clients if who in self._finished)[:too_many]
        for who in leave:
            self.leave(who)
        return leave

    def readmit(self, who: Who, watches: bool, finished: bool) -> None:
        """Let a client in that was in before a restart."""
        if watches:
            self.watchers[who] = None
        else:
            self.clients.append(who)
        if finished:
            self._finished.add(who)

    def replace(self, who: Who) -> tuple[Who, ...]:
        """Let a candidate take over; return those that it replaces, for `leave`."""
        others = (*self.clients, *self.waiting[: self.waiting.index(who)])
        self.waiting.remove(who)
        self.clients.append(who)
        return others

    def write(self, who: Who) -> tuple[Who, ...] | None:
        """Let a watcher in as the others are; return those that make room, None if it is full."""
        if self.is_full:
            return None
        leave = self.make_room()
        self.watchers.pop(who, None)
        self.clients.append(who)
        return leave

    def take(self, who: Who) -> tuple[Who, ...]:
        """Let a client write at once, whoever does now; return those it replaces, for `leave`."""
        self.watchers.pop(who, None)
        for members in (self.clients, self.waiting):
            if who in members:
                members.remove(who)
        others = sorted(self.clients, key=lambda other: other not in self._finished)
        too_many = max(0, len(others) + 1 - self._max_clients)
        self.clients.insert(0, who)
        return (*others[:too_many], *self.waiting)

    def finish(self, who: Who) -> None:
        """A client will send no more; it no longer keeps others out."""
        self._finished.add(who)

    def leave(self, who: Who) -> None:
        """A client is no longer there."""
        for members in (self.clients, self.waiting):
            if who in members:
                members.remove(who)
        self.watchers.pop(who, None)
        self._finished.discard(who)
