"""The process around the server: event loop, signals, readiness, status socket, log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

from ttybridge.daemon import control, metrics, systemd
from ttybridge.model.config import Config, ConfigError
from ttybridge.serve import handover
from ttybridge.serve.server import ListenError, Server
from ttybridge.serve.state import PortState

log = logging.getLogger(__name__)

LoadConfig = Callable[[], Config]


def run(load: LoadConfig, wait_for_listeners: bool) -> int:
    """Serve what `load` returns until SIGTERM or SIGINT; SIGHUP loads them again.

    Returns the exit status: 1 where no port can be served, unless it shall wait until one can.
    `ConfigError` where the ports are faulty at the start; at a reload the fault is logged and all
    stays as it was.
    """
    config = load()
    _log_to_stderr()
    # One port needs a descriptor a client and five for its tty; systemd's soft limit is 1024.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        return runner.run(_run(config, load, wait_for_listeners))


async def _run(config: Config, load: LoadConfig, wait_for_listeners: bool) -> int:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, reload)):
        loop.add_signal_handler(number, event.set)
    server = Server(_inherited())
    try:
        await (server.apply if wait_for_listeners else server.start)(config.ports)
    except ListenError as error:
        log.critical("no port can be served:\n%s", error)
        return 1
    reloader = _Reloader(server, load)
    await reloader.exporter.move(config.metrics)
    commands = await _answer_commands(server, reloader.status)
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
    if not await _leave(server):
        await server.stop()
    await reloader.exporter.leave()
    if commands:
        commands.close()
    return 0


# The name of the descriptor that says what the others are.
_STATE = "state"


def _inherited() -> handover.Inheritance | None:
    """What a daemon that was restarted has left, if any."""
    kept = systemd.kept()
    # At once, the state first: what cannot be taken up is not tried again by the next start.
    for name in sorted(kept, key=_STATE.__ne__):
        systemd.keep_no_more(name)
    if kept:  # a TCP port or a tty that is to be opened anew is free only when systemd has let go
        with contextlib.suppress(OSError):
            systemd.wait_until_read()
    state = kept.pop(_STATE, None)
    ports: dict[str, PortState] = {}
    if state is not None:
        with open(state, "rb") as file:
            file.seek(0)
            try:
                ports = handover.load(file.read())
            except ValueError as error:
                log.error("clients are not kept: %s", error)
    return handover.Inheritance(ports, kept) if kept else None


async def _leave(server: Server) -> bool:
    """Leave all open to the next start, where systemd keeps it; else return False.

    Where systemd stops the unit for good it closes all itself.
    """
    if not systemd.keeps_descriptors():
        return False
    try:
        _keep(*await server.leave())
    except OSError as error:
        log.error("clients are not kept: systemd: %s", error.strerror)
        return False
    server.abandon()
    return True


def _keep(ports: dict[str, PortState], descriptors: dict[str, int]) -> None:
    with open(os.memfd_create(_STATE), "wb") as file:
        file.write(handover.dump(ports))
        file.flush()
        systemd.keep({_STATE: file.fileno(), **descriptors})


async def _answer_commands(
    server: Server, status: Callable[[], dict[str, Any]]
) -> asyncio.AbstractServer | None:
    def kick(request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"kicked": server.kick(str(request.get("port")), request.get("client"))}
        except KeyError as error:
            raise control.CommandError(f"no port is named {error}: see ttybridge status") from None

    path = control.own_path()
    try:
        return await control.serve(path, {"status": lambda _: status(), "kick": kick})
    except OSError as error:
        log.warning("ttybridge status will not work: %s: %s", path, error.strerror or error)
        return None


class _Reloader:
    """Puts into effect what the configuration says now; its faults are part of the status."""

    def __init__(self, server: Server, load: LoadConfig) -> None:
        self._server = server
        self._load = load
        self._problem: str | None = None
        self.exporter = metrics.Exporter(server.status)

    def status(self) -> dict[str, Any]:
        """Everything that `ttybridge status --json` shows."""
        return {
            **self._server.status(),
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
            # Before the ports: one of them may listen there from now on.
            await self.exporter.leave(config.metrics)
            await self._server.apply(config.ports)
            await self.exporter.move(config.metrics)
        except ConfigError as error:
            self._problem = f"not reloaded, all stays as it was:\n{error}"
            log.error("%s", self._problem)
        except Exception as error:  # a fault of ours must not cost the ports that are served
            self._problem = f"not reloaded as a whole: {error}"
            log.exception("not reloaded as a whole")
        else:
            self._problem = None
            log.info("reloaded: %s", self._server.summary())


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return loop


def _log_to_stderr() -> None:
    """Log to standard error; the journal gets the priority as sd-daemon(3) says."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JournalFormatter() if "JOURNAL_STREAM" in os.environ else logging.Formatter("%(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        syslog = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
        return f"<{syslog.get(record.levelno, 7)}>{super().format(record)}"
