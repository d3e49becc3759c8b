"""The clients of one port: lets them in, refuses, replaces and closes them, and tells them why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from ttybridge.model.people import Person, in_words
from ttybridge.model.ports import SINGLE_CLIENT_SHARING, Port
from ttybridge.net.connection import PeerDeadError
from ttybridge.net.sockets import address_of, peer_name, plain_address
from ttybridge.protocol.guard import stranger
from ttybridge.serve.client import Client
from ttybridge.serve.entrance import Entrance
from ttybridge.serve.sharing import Admit, Refuse, Sharing, Wait
from ttybridge.serve.state import Counters

log = logging.getLogger(__name__)

# Refused clients that may stay open to read the reason; more are closed without it, so that a flood
# of them does not use up the file descriptors.
REFUSED_AT_ONCE = 32

# Seconds after which a silent candidate replaces the client of a port. A health check or a port
# scan (`nc -z`) has left by then.
CANDIDATE_SECONDS = 2.0

# Who is refused is told of so many that hold the port; the others are counted.
HOLDERS_NAMED = 3


class ClientsHost(Protocol):
    """What the clients of a port need of it."""

    def greet(self, client: Client) -> None:
        """Show a new client the banner, what the device said before, and what is wrong."""

    def changed(self) -> None:
        """The clients that are in have changed."""

    def first_comes(self, client: Client) -> None:
        """A client comes that may write; nobody was there, or all have left."""

    def last_leaves(self, client: Client) -> None:
        """All have left that might write; `client` is one of them."""

    def leaves_input(self, client: Client) -> None:
        """A client has left; some of what it has sent still goes out."""

    def takes_back_input(self, client: Client) -> None:
        """A client only watches from now on: nothing more of what it has sent goes out."""

    def drops_input(self, client: Client) -> None:
        """A client was replaced or kicked: nothing more of what it has sent goes out."""

    def refusal(self) -> str | None:
        """Return why nobody may come in now, in words, or None."""

    def is_blocked(self) -> bool:
        """Whether the device has taken nothing for so long that dead clients are not noticed."""


class Clients:
    """The clients of one port."""

    def __init__(self, port: Port, counters: Counters, host: ClientsHost) -> None:
        self._port = port
        self._counters = counters
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._sharing: Sharing[Client] = Sharing(port.sharing, port.max_clients)
        self._timers: dict[Client, asyncio.TimerHandle] = {}
        """For each candidate, when it has stayed long enough."""
        self._refused: set[Client] = set()
        """Clients that are told why they are refused."""
        self._is_closed = False
        self.vacant = True
        """Whether only watchers are in, or nobody."""
        self.inside: tuple[Client, ...] = ()
        """Clients that are in, in order of arrival."""
        self.all: tuple[Client, ...] = ()
        """All who get what the device sends: clients that are in, then candidates."""
        self._users: tuple[Client, ...] = ()
        """Clients that are in, without watchers."""
        self._is_passed_on = False
        """Whether a client is taking over from those who leave."""

    @property
    def writer(self) -> Client | None:
        """The one client that writes, if the others only watch."""
        return self._sharing.writer

    # Arriving.

    def turn_away(self, entrance: Entrance, address: str, tcp_port: int) -> str | None:
        """Return why a client may not connect from an address, in words; None if it may."""
        if entrance.lets_in(address):
            return None
        words = self._forbids(address)
        self._count_refusal(f"client {peer_name(address, tcp_port)}", words)
        return words

    def _forbids(self, address: str) -> str:
        return f"{plain_address(address)} may not connect to port {self._port.name}"

    def _forbids_certificate(self, client: Client) -> str:
        port = self._port.name
        return f"{client.name} may not use port {port}: its certificate is not in allow_names"

    def turn_away_person(self, person: Person) -> str | None:
        """Return why a person may not use the port, in words; None if the person may."""
        if person.may_use(self._port.users):
            return None
        words = self._forbids_person(person)
        self._count_refusal(str(person), words)
        return words

    def _forbids_person(self, person: Person) -> str:
        port, users = self._port.name, in_words(self._port.users)
        return f"{person} may not use port {port}: {users} may"

    def no_descriptor(self, address: str, tcp_port: int) -> str:
        """Return why no more clients may connect, in words: file descriptors run out."""
        words = f"port {self._port.name} takes no more clients: the host has no room for them"
        self._count_refusal(f"client {peer_name(address, tcp_port)}", f"{words} (LimitNOFILE=)")
        return words

    def refuse_handshake(self, words: str) -> None:
        """A connection has not finished its TLS handshake."""
        self._count_refusal("connection", f"TLS: {words}")

    def has_room(self, entrance: Entrance) -> bool:
        """Whether a newcomer would not be refused."""
        if self._is_closed or self._is_full(entrance, entrance.watches) or self._host.refusal():
            return False
        return entrance.watches or self._sharing.has_room

    def _is_full(self, entrance: Entrance, watches: bool) -> bool:
        """Whether an entrance has all its clients, whatever room the port has."""
        if self._port.sharing in SINGLE_CLIENT_SHARING and not watches:
            return False  # the sharing rule decides
        return len(self._present(entrance)) >= entrance.max_clients

    def _present(self, entrance: Entrance) -> list[Client]:
        """Clients that have come by an entrance and may still send something."""
        return [one for one in self.inside if one.entrance is entrance and not one.state.finished]

    def _finished_too_many(self, entrance: Entrance) -> tuple[Client, ...]:
        """Of an entrance, who will send no more and must make room for a newcomer."""
        there = [one for one in self.inside if one.entrance is entrance]
        too_many = max(0, len(there) + 1 - entrance.max_clients)
        return tuple(one for one in there if one.state.finished)[:too_many]

    def enter(self, client: Client) -> bool:
        """Let a client in, let it wait, or refuse it and say why; return whether it stays."""
        if self._is_closed:
            return self._refuse(client, f"port {self._port.name} is no longer served")
        if words := self._host.refusal():
            return self._refuse(client, words)
        # Its handshake took a while, and says who it is.
        if words := self._forbidden(client):
            return self._refuse(client, words)
        entrance, watches = client.entrance, client.only_watches
        if self._is_full(entrance, watches) or (self._sharing.is_full and not watches):
            self._give_up_dead()
        if self._is_full(entrance, watches):
            return self._refuse_in_favour_of(client, self._present(entrance))
        if client.visit and client.visit.take:
            self.take_over(client)
            return True
        if watches:
            leave = self._finished_too_many(entrance)
            self._sharing.watch(client, leave)
            self._let_in(client, leave)
            return True
        match self._sharing.ask(client):
            case Refuse(holders):
                return self._refuse_in_favour_of(client, holders)
            case Wait(holder, leave):
                self._let_wait(client, holder, leave)
            case Admit(leave):
                self._let_in(client, leave)
        return True

    def readmit(self, client: Client) -> None:
        """Let a client in that was there before a restart."""
        log.info("%s: client %s is still connected", self._port.name, client.name)
        self._sharing.readmit(client, client.only_watches, client.state.finished)
        self._changed()

    def _let_in(self, client: Client, leave: tuple[Client, ...]) -> None:
        for other in leave:
            self._close_finished(other)
        self._log_arrival(client)
        self._changed()
        self._host.greet(client)
        self._tell_if_it_watches(client)

    def _log_arrival(self, client: Client) -> None:
        person = client.state.person
        way = f" ({person.way})" if person and person.way else ""
        log.info("%s: client %s%s connected", self._port.name, client.name, way)

    def _tell_if_it_watches(self, client: Client) -> None:
        writer = self.writer
        if writer and writer is not client:
            client.notice(f"{self._port.name}: you watch {writer.name}, who writes")
        elif client.only_watches:
            client.notice(f"{self._port.name}: you watch: nothing that you send is written")

    def _let_wait(self, client: Client, holder: Client, leave: tuple[Client, ...]) -> None:
        """Let a candidate wait until it sends something or has stayed; it gets what others get."""
        for oldest in leave:
            log.info("%s: client %s closed: newer ones wait", self._port.name, oldest.name)
            self._timers.pop(oldest).cancel()
            oldest.displace()
        log.info("%s: client %s waits to replace %s", self._port.name, client.name, holder.name)
        self._timers[client] = self._loop.call_later(CANDIDATE_SECONDS, self._has_stayed, client)
        self._changed()
        self._host.greet(client)

    def _close_finished(self, client: Client) -> None:
        """Close a client that will send no more, to make room; `Sharing` has removed it."""
        log.info("%s: client %s left", self._port.name, client.name)
        self._has_left(client)
        client.close()

    def _give_up_dead(self) -> None:
        """Close dead clients, so that they do not hold the port."""
        blocked = self._host.is_blocked()
        for client in tuple(self.inside):
            if not client.state.finished and client.connection.is_dead(blocked):
                client.connection.give_up()

    def _refuse_in_favour_of(self, client: Client, holders: Sequence[Client]) -> bool:
        return self._refuse(client, self._in_use_by(holders))

    def _in_use_by(self, holders: Sequence[Client]) -> str:
        now = self._loop.time()
        named = [other.state.presence(now) for other in holders[:HOLDERS_NAMED]]
        if len(holders) > HOLDERS_NAMED:
            named.append(f"{len(holders) - HOLDERS_NAMED} more")
        return f"port {self._port.name} is in use by {' and '.join(named)}"

    def _refuse(self, client: Client, words: str) -> bool:
        self._count_refusal(f"client {client.name}", words)
        if len(self._refused) < REFUSED_AT_ONCE:
            self._refused.add(client)
            client.refuse(words)
        else:
            client.abort()
        return False

    def _count_refusal(self, who: str, words: str) -> None:
        self._counters.refused_clients += 1
        log.warning("%s: %s refused: %s", self._port.name, who, words)

    # First bytes.

    def heard(self, client: Client, first: bytes) -> bool:
        """A client has sent its first bytes; return whether they are meant for a device."""
        if client.entrance.guarded:
            seems = stranger(first)
            if seems:
                self._turn_out(client, seems)
                return False
        if client in self._timers:
            self._take_over(client)
        return True

    def _turn_out(self, client: Client, seems: str) -> None:
        words = (
            f"it begins like {seems}, which is not for a serial device: "
            f"guard: off of port {self._port.name} lets it through"
        )
        self._count_refusal(f"client {client.name}", words)
        self._remove(client)
        client.displace()

    def _has_stayed(self, client: Client) -> None:
        if not client.connection.transport.is_closing():
            self._take_over(client)

    def _take_over(self, client: Client) -> None:
        """Let a candidate replace the client that is in, and the older candidates."""
        others = self._sharing.replace(client)
        self._timers.pop(client).cancel()
        self._replace(others, client)

    def _replace(self, others: Sequence[Client], by: Client) -> None:
        """Close clients in favour of another one, which goes on with the device."""
        self._is_passed_on = any(other in self._users for other in others)
        self._make_way(others, by)
        self._changed()
        self._is_passed_on = False

    def _make_way(self, others: Sequence[Client], by: Client) -> None:
        """Close clients in favour of another one; a person watches on."""
        for other in others:
            log.info("%s: client %s replaced by %s", self._port.name, other.name, by.name)
            if other.state.person and other in self.inside:
                other.notice(f"{self._port.name}: {by.name} has taken over: you watch now")
                self._let_watch(other)
                self._host.takes_back_input(other)
                continue
            other.notice(f"{self._port.name}: replaced by {by.name}")
            other.displace()
            self._remove(other, replaced=True)

    # A person asks to write, or to watch.

    def take_over(self, client: Client) -> None:
        """Let a client write at once, whoever writes now."""
        before, is_new = self.writer, client not in self.all
        others = self._sharing.take(client)
        if client in self._timers:
            self._timers.pop(client).cancel()
        client.watch(False)
        if is_new:
            self._log_arrival(client)
        self._replace(others, client)
        if is_new:
            self._host.greet(client)
        if before and before is not client and before in self.inside and not before.only_watches:
            log.info("%s: client %s takes over from %s", self._port.name, client.name, before.name)
            before.notice(f"{self._port.name}: {client.name} has taken over: you watch now")
            self._host.takes_back_input(before)
        client.notice(f"{self._port.name}: you write now")

    def ask_to_write(self, client: Client) -> None:
        """Let a client that watches write too, if there is room."""
        if client.only_watches:
            leave = self._sharing.write(client)
            if leave is None:
                held = self._in_use_by(self._sharing.active)
                client.notice(f"{held}: take over to write")
                return
            for other in leave:
                self._close_finished(other)
            client.watch(False)
            log.info("%s: client %s no longer only watches", self._port.name, client.name)
            self._changed()
        self._tell_whether_it_writes(client)

    def only_watch(self, client: Client) -> None:
        """Let a client watch from now on; who waits to write goes on."""
        writer = self.writer
        if not client.only_watches:
            log.info("%s: client %s only watches now", self._port.name, client.name)
            self._let_watch(client)
            self._go_on_after(writer)
        client.notice(f"{self._port.name}: you watch: nothing that you send is written")

    def _let_watch(self, client: Client) -> None:
        self._sharing.leave(client)
        self._sharing.watch(client)
        client.watch(True)

    def finished(self, client: Client) -> bool:
        """A client will send no more; return whether it stays for the answers."""
        if client in self._timers:  # it was a health check or a port scan
            log.info("%s: client %s left", self._port.name, client.name)
            self._remove(client)
            return False
        writer = self.writer
        self._sharing.finish(client)
        if self._waiting() and not self._sharing.active:  # make room, as for a newcomer
            for other in self._sharing.make_room():
                self._close_finished(other)
        self._go_on_after(writer)
        return True

    # Leaving.

    def left(self, client: Client, error: Exception | None) -> None:
        """A connection has ended."""
        self._refused.discard(client)
        if client not in self.all:
            return
        if isinstance(error, PeerDeadError):
            log.warning("%s: client %s closed: %s", self._port.name, client.name, error)
        else:
            reason = f": {error}" if error else ""
            log.info("%s: client %s left%s", self._port.name, client.name, reason)
        self._remove(client)

    def kick(self, called: str | None, by: str) -> list[str]:
        """Close the client with an address, those with a certificate's name, or all.

        Return what they are called.
        """
        here = self._here()
        kicked = [one for one in here if called in (None, one.state.name, *one.state.names)]
        for client in kicked:
            name = self._port.name
            log.warning("%s: client %s closed by %s (ttybridge kick)", name, client.name, by)
            client.notice(f"{self._port.name}: closed by {by}")
            client.displace()
            self._remove(client, replaced=True)
        return [client.name for client in kicked]

    def _here(self) -> tuple[Client, ...]:
        """All clients, candidates first: to close, else one of them takes over."""
        return (*self._sharing.waiting, *self.inside)

    # Another entry.

    def change(self, port: Port) -> None:
        """Go on with another entry: its rules are for who comes from now on.

        Only clients that may no longer connect are closed.
        """
        self._port = port
        wrote = {client: client.writes for client in self.inside}
        self._sharing.change(port.sharing, port.max_clients)
        self._changed()
        for client in self.inside:
            if client.writes != wrote[client]:
                self._tell_whether_it_writes(client)
        self._close_forbidden()

    def _tell_whether_it_writes(self, client: Client) -> None:
        writer = self.writer
        watches = f"you watch {writer.name}, who writes" if writer else "you watch"
        words = "you write now" if client.writes else watches
        client.notice(f"{self._port.name}: {words}")

    def _close_forbidden(self) -> None:
        for client in self._here():
            if words := self._forbidden(client):
                log.warning("%s: client %s closed: %s", self._port.name, client.name, words)
                client.notice(words)
                client.displace()
                self._remove(client, replaced=True)

    def _forbidden(self, client: Client) -> str | None:
        """Return why a client may not be here, or no longer, in words; None if it may.

        A person is in the groups that it was in when it came.
        """
        if person := client.state.person:
            return None if person.may_use(self._port.users) else self._forbids_person(person)
        address = address_of(client.state.name)
        if not client.entrance.lets_in(address):
            return self._forbids(address)
        known = client.entrance.knows(client.state.names)
        return None if known else self._forbids_certificate(client)

    def close_entrance(self, entrance: Entrance) -> None:
        """Close who came by an entrance that closes; what they have sent still goes out."""
        for client in self._here():
            if client.entrance is entrance:
                words = "its listener has changed" if entrance.at else "connect has changed"
                log.info("%s: client %s closed: %s", self._port.name, client.name, words)
                client.notice(f"{self._port.name}: {words}")
                self._remove(client)
                client.close()

    def dismiss_all(self, words: str) -> None:
        """Close all clients, and tell them why."""
        for client in self._here():
            log.warning("%s: client %s closed: %s", self._port.name, client.name, words)
            client.dismiss(words)
            self._refused.add(client)
            self._remove(client)

    def refuse_all(self) -> None:
        """Refuse all newcomers from now on."""
        self._is_closed = True

    def close(self) -> None:
        """Close all."""
        self.close_waiting()
        for client in self.inside:
            client.close()
        self.abort_refused()

    def close_waiting(self) -> None:
        """Close the candidates."""
        for client in tuple(self._sharing.waiting):
            self._remove(client)
            client.close()

    def abort_refused(self) -> None:
        """Close the refused clients now."""
        for client in tuple(self._refused):
            client.abort()

    def abandon(self) -> None:
        """The next process owns the connections: drop them without writing."""
        clients, self.inside, self.all = self.inside, (), ()
        for client in clients:
            client.abort()

    def _remove(self, client: Client, replaced: bool = False) -> None:
        """Remove a client, and let the others go on."""
        if client in self._timers:
            self._timers.pop(client).cancel()
            self._sharing.leave(client)
            self._changed()
        elif client in self.inside:
            writer = self.writer
            self._sharing.leave(client)
            self._has_left(client, replaced)
            self._go_on_after(writer)

    def _has_left(self, client: Client, replaced: bool = False) -> None:
        client.has_left = True
        # What is left in its inbox is still written, unless another client writes now.
        client.writes = client.writes and not replaced and self._sharing.all_write
        if replaced:
            self._host.drops_input(client)
        else:
            self._host.leaves_input(client)

    def _go_on_after(self, writer: Client | None) -> None:
        """Let the other clients go on; `writer` is the one that wrote before."""
        waiting = self._waiting()
        if waiting and not self._sharing.clients:
            log.info("%s: client %s no longer waits", self._port.name, waiting[-1].name)
            self._take_over(waiting[-1])
        self._changed()
        if self.writer and self.writer is not writer:
            self.tell_writer()

    def tell_writer(self) -> None:
        """Tell the client that writes, if the others only watch."""
        if self.writer:
            log.info("%s: client %s writes now", self._port.name, self.writer.name)
            self.writer.notice(f"{self._port.name}: you write now")

    def _waiting(self) -> list[Client]:
        waiting = self._sharing.waiting
        return [who for who in waiting if not who.connection.transport.is_closing()]

    def _changed(self) -> None:
        before, self._users = self._users, tuple(self._sharing.clients)
        self.vacant = not self._users
        self.inside = (*self._sharing.clients, *self._sharing.watchers)
        self.all = (*self.inside, *self._sharing.waiting)
        for client in self.inside:
            client.writes = self._sharing.may_write(client)
        self._host.changed()
        self._tell_who_came_and_left(before)

    def _tell_who_came_and_left(self, before: tuple[Client, ...]) -> None:
        if not {*before}.isdisjoint(self._users) or self._is_passed_on:
            return
        if before:
            self._host.last_leaves(before[-1])
        if self._users:
            self._host.first_comes(self._users[0])

    @property
    def a_user(self) -> Client | None:
        """A client that is in and does not only watch, if there is one."""
        return next(iter(self._users), None)

    @property
    def alone(self) -> Client | None:
        """The only client that may write or still gets answers, where there is but one."""
        clients = self._sharing.active or self._sharing.clients
        return clients[0] if len(clients) == 1 else None

    def status(self) -> list[dict[str, Any]]:
        """The clients as `ttybridge status --json` shows them; times in seconds."""
        return [self._client_status(client) for client in self.all]

    def _client_status(self, client: Client) -> dict[str, Any]:
        now, state, person = self._loop.time(), client.state, client.state.person
        return {
            "address": state.name,
            "person": str(person) if person else None,
            "groups": person.groups if person else [],
            "by": person.by if person else None,
            "from": person.address if person else None,
            "names": state.names,
            "listener": client.entrance.at or None,
            "connected_for": round(now - state.connected_at, 1),
            "idle_for": round(now - state.active_at, 1),
            "received": state.received,
            "sent": state.sent,
            "writes": client.writes,
            "waits": client in self._timers,
        }
