"""Metrics for Prometheus: the daemon's status over HTTP."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ttybridge import BUILD
from ttybridge.model.values import Listen
from ttybridge.net.sockets import BACKLOG, RETRY_SECONDS, open_listener

log = logging.getLogger(__name__)

# How long a scrape may take from connecting to the last byte, in seconds.
ANSWER_SECONDS = 5.0

# Connections that are answered at the same time; more are closed without an answer, so that a flood
# of them does not use up the file descriptors.
ANSWERED_AT_ONCE = 8

# Bytes that the request line and the header fields may have together.
REQUEST_LIMIT = 16384

# Name, meaning and place in the status of a port; a name that ends in _total is a counter.
PORT_METRICS: tuple[tuple[str, str, Callable[[dict[str, Any]], Any]], ...] = (
    (
        "ttybridge_device_present",
        "1 while the serial device of the port is open, 0 while it is away or cannot be opened.",
        lambda port: port["device"]["present"],
    ),
    (
        "ttybridge_listening",
        "1 while the port listens at every listener, or its outgoing connection is open; else 0.",
        lambda port: port["listening"],
    ),
    (
        "ttybridge_clients",
        "Clients that are connected to the port now.",
        lambda port: len(port["clients"]),
    ),
    (
        "ttybridge_device_received_bytes_total",
        "Bytes that came from the serial device.",
        lambda port: port["counters"]["from_device"],
    ),
    (
        "ttybridge_device_sent_bytes_total",
        "Bytes that went to the serial device.",
        lambda port: port["counters"]["to_device"],
    ),
    (
        "ttybridge_dropped_bytes_total",
        "Bytes that clients sent and the serial device never got: the client had left, was "
        "replaced or kicked, or the device was away and the port has `away: drop`.",
        lambda port: port["counters"]["dropped"],
    ),
    (
        "ttybridge_device_reconnects_total",
        "How often the serial device was opened again after it had gone away.",
        lambda port: port["counters"]["reconnects"],
    ),
    (
        "ttybridge_refused_clients_total",
        "Clients that were not let in: the port was in use, or their address is not allowed.",
        lambda port: port["counters"]["refused_clients"],
    ),
    (
        "ttybridge_closed_slow_clients_total",
        "Clients that were closed because they lagged too far behind the others.",
        lambda port: port["counters"]["closed_slow_clients"],
    ),
    (
        "ttybridge_log_lost_bytes_total",
        "Bytes that are missing from the log of the port because they could not be written.",
        lambda port: port["log"]["lost"],
    ),
    (
        "ttybridge_journal_lost_lines_total",
        "Lines of the port that are missing in the journal because journald did not take them.",
        lambda port: port["not_in_journal"],
    ),
)

# What the program of `serial_pull` writes (ttybridge.setup.pulling).
PULL_STATE = Path("/var/lib/ttyfleet/pull.json")

# Name, meaning and place in that file, for hosts that pull their inventory.
PULL_METRICS: tuple[tuple[str, str, Callable[[dict[str, Any]], Any]], ...] = (
    (
        "ttyfleet_pull_success",
        "1 if the last pull of the inventory went well, 0 if it failed.",
        lambda state: state["result"] != "failed",
    ),
    (
        "ttyfleet_pull_last_run_timestamp_seconds",
        "When the last pull ended.",
        lambda state: state["ended"],
    ),
    (
        "ttyfleet_pull_last_success_timestamp_seconds",
        "When the last pull that went well ended.",
        lambda state: state["succeeded"],
    ),
    (
        "ttyfleet_pull_stale_after_timestamp_seconds",
        "From when on pulls are missing: two in a row should have gone well by then.",
        lambda state: state["stale_after"],
    ),
)


class MetricsError(Exception):
    """Metrics cannot be served; the message says why and what to do."""


class Exporter:
    """Serves the metrics at one listener, or nowhere; a reload may move it.

    `status` returns what `ttybridge status --json` prints.
    """

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status
        self._listen: Listen | None = None
        self._server: asyncio.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = None

    def status(self) -> dict[str, Any]:
        """Where metrics are configured, and why they are missing, for the daemon's status."""
        return {
            "listen": str(self._listen) if self._listen else None,
            "listening": self._server is not None,
            "problem": self._problem,
        }

    async def leave(self, listen: Listen | None = None) -> None:
        """Close the listener, unless it is at `listen` already."""
        if self._server and self._listen == listen:
            return
        if self._task:
            self._task.cancel()
        if self._server:
            self._server.close()
            await asyncio.sleep(0)  # uvloop lets go of the socket in its next turn
        self._listen = self._server = self._task = self._problem = None

    async def move(self, listen: Listen | None) -> None:
        """Listen only at `listen`; keep trying while another program holds the TCP port."""
        await self.leave(listen)
        if listen is None or self._server:
            return
        self._listen = listen
        await self._open(listen)
        if not self._server:
            self._task = asyncio.create_task(self._try_again(listen))

    async def _try_again(self, listen: Listen) -> None:
        while not self._server:
            await asyncio.sleep(RETRY_SECONDS)
            await self._open(listen)

    async def _open(self, listen: Listen) -> None:
        try:
            self._server = await serve(listen, self._status)
        except (OSError, MetricsError) as error:
            # Not fatal: the ports matter more than their metrics.
            words = str(getattr(error, "strerror", None) or error)
            if words != self._problem:
                log.error("no metrics on %s: %s", listen, words)
            self._problem = words
        else:
            self._problem = None
            log.info("metrics on %s", listen)


async def serve(listen: Listen, status: Callable[[], dict[str, Any]]) -> asyncio.Server:
    """Answer `GET /metrics` in Prometheus' text format until the server is closed.

    `status` returns what `ttybridge status --json` prints; it is called in this event loop.
    Raises `OSError` where it cannot listen, `MetricsError` where prometheus_client is missing.
    """
    page = _page(status)
    turns = asyncio.Semaphore(ANSWERED_AT_ONCE)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if turns.locked():
            writer.transport.abort()
            return
        writer.transport.set_write_buffer_limits(0)  # so drain() returns once all is sent
        try:
            async with turns, asyncio.timeout(ANSWER_SECONDS):
                writer.write(_answer(await _request(reader), page))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.CancelledError):
            writer.transport.abort()  # the asker hung or left, or the daemon ends
        finally:
            writer.close()

    sock = open_listener(listen)
    # asyncio accepts `backlog` connections at a time. Where no descriptor is left, it logs each
    # failure among them and sets a timer for each to try again: the timers would multiply.
    server = await asyncio.start_server(converse, sock=sock, limit=REQUEST_LIMIT, backlog=1)
    sock.listen(BACKLOG)
    return server


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Return request line and header fields; nothing where they are too long or not whole."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return b""


def _answer(request: bytes, page: Callable[[], bytes]) -> bytes:
    """Return the HTTP/1.1 answer (RFC 9112) to a request."""
    match = re.match(rb"([A-Z]+) ([!-~]+) HTTP/1\.[01]\r\n", request)
    method, target = match.groups() if match else (b"", b"")
    if not match:
        code, body = "400 Bad Request", b"write GET /metrics HTTP/1.1\n"
    elif target.partition(b"?")[0] != b"/metrics":
        code, body = "404 Not Found", b"the metrics are at /metrics\n"
    elif method not in (b"GET", b"HEAD"):
        code, body = "405 Method Not Allowed", b"the metrics can only be read\n"
    else:
        code, body = "200 OK", page()
    fields = (
        f"HTTP/1.1 {code}\r\n"
        "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Allow: GET, HEAD\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    return fields if method == b"HEAD" else fields + body


def _page(status: Callable[[], dict[str, Any]]) -> Callable[[], bytes]:
    """Return a function that makes the page of all metrics from the current status."""
    importlib.invalidate_caches()  # it may have been installed since the start
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            InfoMetricFamily,
            Metric,
        )
        from prometheus_client.registry import Collector
    except ModuleNotFoundError as error:
        raise MetricsError(
            f"Python's module {error.name} is missing: sudo apt install python3-prometheus-client"
        ) from None

    class Status(Collector):
        def collect(self) -> Iterator[Metric]:
            ports = status()["ports"]
            yield InfoMetricFamily(
                "ttybridge", "The version of ttybridge that runs.", {"version": BUILD}
            )
            for name, meaning, read in PORT_METRICS:
                family = (
                    CounterMetricFamily(name, meaning, labels=["port"])
                    if name.endswith("_total")
                    else GaugeMetricFamily(name, meaning, labels=["port"])
                )
                for port in ports:
                    value = _number(read, port)
                    if value is not None:
                        family.add_metric([port["name"]], value)
                yield family
            sessions = GaugeMetricFamily(
                "ttybridge_people",
                "Sessions of people by `ttybridge console`: the account, and how it has come "
                "(local, ssh).",
                labels=["port", "user", "by"],
            )
            for port in ports:
                for (user, by), count in _people(port).items():
                    sessions.add_metric([port["name"], user, by], count)
            yield sessions
            matches = CounterMetricFamily(
                "ttybridge_watch_matches_total",
                "Lines of the serial device that matched an expression of `watch`, by its name.",
                labels=["port", "name"],
            )
            for port in ports:
                for name, count in (port.get("watch") or {}).items():
                    matches.add_metric([port["name"], name], count)
            yield matches
            errors = CounterMetricFamily(
                "ttybridge_line_errors_total",
                "What the driver of the serial device counted: characters that were read too late "
                "(overrun), did not fit into a buffer (buffer_overrun) or came damaged (frame, "
                "parity), and breaks.",
                labels=["port", "kind"],
            )
            for port in ports:
                for kind, count in (port.get("line_errors") or {}).items():
                    errors.add_metric([port["name"], kind], count)
            yield errors
            if pull := _pull_state():
                commit = {"commit": str(pull.get("commit") or "")}
                yield InfoMetricFamily("ttyfleet_pull", "The commit that was applied.", commit)
                for name, meaning, read in PULL_METRICS:
                    value = _number(read, pull)
                    if value is not None:
                        yield GaugeMetricFamily(name, meaning, value)

    registry = CollectorRegistry()
    registry.register(Status())
    return functools.partial(generate_latest, registry)


def _people(port: dict[str, Any]) -> Counter[tuple[str, str]]:
    """How many sessions each person has at a port, by the way that it has come."""
    came = [one for one in port.get("clients") or () if one.get("person")]
    return Counter((one["person"], one["by"] or "local") for one in came)


def _pull_state() -> dict[str, Any]:
    """Return what became of the last pull; {} on a host that does not pull."""
    try:
        state = json.loads(PULL_STATE.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(state) if isinstance(state, Mapping) else {}


def _number(read: Callable[[dict[str, Any]], Any], found: dict[str, Any]) -> float | None:
    """Return a number from the status of a port, or of a pull; None where there is none."""
    try:
        return float(read(found))
    except (KeyError, TypeError, ValueError):
        return None
