"""The process around the server: event loop, signals, readiness, control socket, journal."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

from ttybridge import BUILD
from ttybridge.daemon import control, earlier, metrics, systemd
from ttybridge.daemon.commands import Status, commands
from ttybridge.daemon.limiter import Limiter
from ttybridge.daemon.store import Store
from ttybridge.model.config import Config, ConfigError
from ttybridge.model.people import Person
from ttybridge.serve.server import ListenError, Server

log = logging.getLogger(__name__)

LoadConfig = Callable[[], Config]


def run(load: LoadConfig, wait_for_listeners: bool) -> int:
    """Serve what `load` returns until SIGTERM or SIGINT; SIGHUP loads them again.

    Returns the exit status: 1 if no port can be served; with `wait_for_listeners` it keeps trying
    instead. Raises `ConfigError` if the ports are faulty at the start; at a reload it logs the
    fault, and all stays as it was.
    """
    config = load()
    _log_to_stderr()
    # A port needs a descriptor for each client and five for its tty; systemd's soft limit is 1024.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        return runner.run(_run(config, load, wait_for_listeners))


async def _run(config: Config, load: LoadConfig, wait_for_listeners: bool) -> int:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for each, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, reload)):
        loop.add_signal_handler(each, event.set)
    store, left = earlier.earlier()
    server = Server(left.inheritance, store)
    try:
        await (server.apply if wait_for_listeners else server.start)(config.ports)
    except ListenError as error:
        log.critical("no port can be served:\n%s", error)
        return 1
    left.forget()
    reloader = _Reloader(server, load)
    await reloader.exporter.move(config.metrics)
    asked = await _answer_commands(server, reloader.status)
    background = [
        asyncio.create_task(systemd.keep_watchdog()),
        asyncio.create_task(reloader.reload_when_asked(reload)),
    ]
    systemd.notify("READY=1", f"STATUS={server.summary()}")
    await stop.wait()
    systemd.notify("STOPPING=1")
    log.info("stopping")
    for task in background:
        task.cancel()
    if store:
        await _leave(server, store)
    else:
        await server.stop()
    await reloader.exporter.leave()
    if asked:
        asked.close()
    return 0


async def _leave(server: Server, store: Store) -> None:
    """Leave all to the next process.

    If systemd stops the unit for good, it closes everything itself.
    """
    try:
        earlier.leave(await server.leave(), store)
    except OSError as error:
        words = "hand-over failed, what was in memory may be lost: systemd: %s"
        log.error(words, error.strerror or error)
    server.abandon()


async def _answer_commands(server: Server, status: Status) -> asyncio.AbstractServer | None:
    path = control.own_path()
    try:
        return await control.serve(path, commands(server, status))
    except OSError as error:
        log.warning("ttybridge status will not work: %s: %s", path, error.strerror or error)
        return None


class _Reloader:
    """Reloads the configuration; its faults are part of the status."""

    def __init__(self, server: Server, load: LoadConfig) -> None:
        self._server = server
        self._load = load
        self._problem: str | None = None
        self.exporter = metrics.Exporter(server.status)

    def status(self, person: Person | None = None) -> dict[str, Any]:
        """Everything that `ttybridge status --json` shows to a person; else to administrators."""
        return {
            "version": BUILD,
            **self._server.status(person),
            "metrics": self.exporter.status(),
            "reload_problem": self._problem,
        }

    async def reload_when_asked(self, asked: asyncio.Event) -> None:
        """Reload each time that `asked` is set."""
        while True:
            await asked.wait()
            asked.clear()
            systemd.reloading()
            await self._reload()
            systemd.notify("READY=1", f"STATUS={self._server.summary()}")

    async def _reload(self) -> None:
        try:
            config = self._load()
            # Close the old listener of the metrics first: a port may have that TCP port now.
            await self.exporter.leave(config.metrics)
            await self._server.apply(config.ports)
            await self.exporter.move(config.metrics)
        except ConfigError as error:
            self._problem = f"not reloaded, all stays as it was:\n{error}"
            log.error("%s", self._problem)
        except Exception as error:  # a bug in ttybridge must not end the ports that are served
            words = "reload failed half-way; some ports have the old configuration"
            self._problem = f"{words}: {error}"
            log.exception("%s", words)
        else:
            self._problem = None
            log.info("reloaded: %s", self._server.summary())


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loop; None, for asyncio's own, where it is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return loop


def _log_to_stderr() -> None:
    """Log to standard error; the journal gets the priority as sd-daemon(3) says."""
    handler = logging.StreamHandler()
    handler.addFilter(Limiter())
    handler.setFormatter(
        _JournalFormatter() if "JOURNAL_STREAM" in os.environ else logging.Formatter("%(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        syslog = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
        return f"<{syslog.get(record.levelno, 7)}>{super().format(record)}"
