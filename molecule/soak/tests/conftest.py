"""Streams flow through eight ports of each Pi, and all that can happen to ttybridge does, in turn.

SOAK_SECONDS says for how long: by default 180. Each kind of event comes at least once.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from live_keys import CHANGES, RELOADS, change
from playbook import other_clone, run_playbook
from soaked import FOLDER, HOSTS, INVENTORY, Outcome, Pi, each, table

SECONDS = float(os.environ.get("SOAK_SECONDS", "180"))

OUTCOMES = pytest.StashKey[list[Outcome]]()

# No canary, which would take its own time.
AT_ONCE = ("-e", 'rollout=["100%"]')

OTHER_TLS_FILES = """
cp -a /etc/ssl/certs/ssl-cert-snakeoil.pem /etc/ssl/certs/soak.pem
cp -a /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/private/soak.key
"""

SAVE = "cp -a /etc/ttybridge/ttybridge.toml /run/soak.toml; cat /run/soak.toml"


def installed(pi: Pi, which: str) -> str:
    """The program that the playbook installed last ("head") or first ("tail")."""
    return pi.sh(f"ls -t /usr/local/lib/ttybridge/ttybridge-* | {which} -n 1").strip()


class Soak:
    """All events, one after the other, each on all Pis at once."""

    def __init__(self, pis: list[Pi], newer: Path, outcomes: list[Outcome]) -> None:
        """`newer` is a clone with a newer program; outcomes are added to the list."""
        self._pis = pis
        self._newer = newer
        self._outcomes = outcomes

    def run(self) -> None:
        """Everything once, and again all but the upgrade until the time is over."""
        ends = time.monotonic() + SECONDS
        often = [
            self.reload,
            self.restart,
            self.program,
            self.unplug,
            self.kill,
            self.throw,
            self.hang,
            self.break_program,
        ]
        for act in (self.upgrade, *often):
            act()
        for act in itertools.cycle(often):
            if time.monotonic() > ends:
                return
            act()

    def upgrade(self) -> None:
        """The playbook brings a newer program."""

        def upgrade() -> None:
            run = run_playbook("playbook.yml", INVENTORY, *AT_ONCE, clone=self._newer)
            assert run.returncode == 0, run.stdout + run.stderr

        self._event("upgrade", "99.0", upgrade)
        # For program.py and dies.py.
        each(self._pis, lambda pi: pi.sh(f"ln -sfn {installed(pi, 'head')} {FOLDER}/real"))

    def reload(self) -> None:
        """Change each live key of some port, then all back at once."""
        saved = dict(zip(HOSTS, each(self._pis, lambda pi: pi.sh(SAVE)), strict=True))
        for number in range(RELOADS):
            keys = [key for changes in CHANGES.values() for key, _ in changes[number : number + 1]]
            self._each(
                "reload", ", ".join(keys), functools.partial(Pi.configure, change=change(number))
            )
        self._each("reload", "all back", lambda pi: pi.write_configuration(saved[pi.name]))

    def restart(self) -> None:
        """As `systemctl restart` does it."""
        for _ in range(3):
            self._each("restart", "systemctl restart", Pi.restart)

    def program(self) -> None:
        """The older program, and the newer one again."""
        for which in ("tail", "head"):
            self._use(functools.partial(installed, which=which))

    def unplug(self) -> None:
        """Adapters, of a slow and of a fast stream."""
        for port in ("raw", "fast"):
            self._each("unplug and plug", port, functools.partial(Pi.replug, port=port))

    def kill(self) -> None:
        """Kill the daemon."""
        for _ in range(3):
            self._each("SIGKILL", "", lambda pi: pi.end("KILL"))

    def throw(self) -> None:
        """Exceptions, by a program that throws them on request."""
        self._use(lambda _: f"{FOLDER}/program.py")
        for _ in range(2):
            self._each("caught exception", "", Pi.throw_in_a_callback)
            self._each("fatal exception", "", lambda pi: pi.end("USR2"))
        self._use(lambda pi: installed(pi, "head"))

    def hang(self) -> None:
        """Stop the daemon, until systemd sends SIGABRT."""
        self._each("hang", "", lambda pi: pi.end("STOP"))

    def break_program(self) -> None:
        """Programs that die before and after they take over, and then the old one again."""
        self._each("broken program", "", lambda pi: pi.fail_to_start("/bin/false"))
        self._each("dies at its start", "", lambda pi: pi.fail_to_start(f"{FOLDER}/dies.py"))

    def _use(self, program: Callable[[Pi], str]) -> None:
        self._each("another program", "", lambda pi: pi.use(program(pi)))

    def _each(self, kind: str, what: str, act: Callable[[Pi], object]) -> None:
        self._event(kind, what, lambda: each(self._pis, act))

    def _event(self, kind: str, what: str, act: Callable[[], object]) -> None:
        """Let something happen, and note what it did to streams and sessions."""
        each(self._pis, Pi.begin)
        act()
        self._outcomes += each(self._pis, lambda pi: pi.outcome(kind, what))


@pytest.fixture(scope="session")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Outcome]:
    """What each event of the soak did."""
    found = request.config.stash[OUTCOMES]
    with contextlib.ExitStack() as stack:
        pis = [stack.enter_context(contextlib.closing(pi)) for pi in each(HOSTS, Pi)]
        first = run_playbook("playbook.yml", INVENTORY, *AT_ONCE)
        assert first.returncode == 0, first.stdout + first.stderr
        each(pis, lambda pi: pi.sh(OTHER_TLS_FILES))
        each(pis, Pi.connect)
        Soak(pis, other_clone(tmp_path_factory.mktemp("clone"), "99.0"), found).run()
    return found


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what became of the streams, also of those that nothing happened to."""
    if found := config.stash[OUTCOMES]:
        terminalreporter.write_line(f"\n{table(found)}\n")
