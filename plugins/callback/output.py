"""Ansible's default output, without control characters in texts of hosts, and much shorter."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.model.values import all_printable

DOCUMENTATION = """
name: output
type: stdout
short_description: Ansible's default output without control characters of hosts
description:
  - >-
    What a host returns reaches the terminal with its control characters as visible escapes, also
    in an error that Ansible itself shows.
  - Without -v it shows changes, failures and messages, and each failure once.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""


# YAML breaks a text about this long into several lines.
WRAPPED = 60


class _Printable:
    """Ansible's display, with all texts made printable first."""

    def __init__(self, display: Any) -> None:
        self._display = display

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._display, name)
        if not callable(attribute):
            return attribute

        def call(*texts: Any, **options: Any) -> Any:
            return attribute(*map(all_printable, texts), **all_printable(options))

        return call


class CallbackModule(Default):  # type: ignore[misc]  # Ansible has no types.
    """What Ansible loads."""

    CALLBACK_NAME = "ttyfleet.serial.output"
    _display: Any

    def __init__(self) -> None:
        super().__init__()
        self._coloured = self._display
        self._display = _Printable(self._display)

    @property
    def _is_short(self) -> bool:
        return int(self._coloured.verbosity) == 0

    def _says_nothing(self, result: Any) -> bool:
        """Whether a result is not worth a line: nothing changed, and nobody is told anything."""
        # By the names that ansible-core 2.18 has, too.
        is_message = result._task.action.rpartition(".")[2] == "debug"
        return self._is_short and not is_message and not result._result.get("changed")

    def v2_runner_on_ok(self, result: Any) -> None:
        """Show a change or a message."""
        if not self._says_nothing(result):
            super().v2_runner_on_ok(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Show a change of one item of a loop."""
        if not self._says_nothing(result):
            super().v2_runner_item_on_ok(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Show a host that cannot be reached, unless the play goes on and says so at its end."""
        if not (self._is_short and result._task.ignore_unreachable):
            super().v2_runner_on_unreachable(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Show a failure, unless the play goes on and says so at its end."""
        if not (self._is_short and ignore_errors):
            super().v2_runner_on_failed(result, ignore_errors=ignore_errors)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Show nothing of included files."""
        if not self._is_short:
            super().v2_playbook_on_include(included_file)

    def _dump_results(self, result: Any, *arguments: Any, **options: Any) -> str:
        """Return a result as text, with its message unbroken: people search for it."""
        message = result.get("msg")
        if isinstance(message, str) and "\n" not in message and len(message) > WRAPPED:
            # YAML leaves texts of several lines as they are.
            result = {**result, "msg": f"{message}\n"}
        return str(super()._dump_results(result, *arguments, **options))

    def _handle_exception(self, result: Any, use_stderr: bool = False) -> None:
        """Show no traceback of a failure: its message follows."""
        if not self._is_short:
            super()._handle_exception(result, use_stderr=use_stderr)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show the recap in colours: it holds only names from the inventory."""
        with self._in_colours():
            super().v2_playbook_on_stats(stats)

    def v2_on_file_diff(self, result: Any) -> None:
        """Show how a file differs, in colours: `_get_diff` has made it printable."""
        with self._in_colours():
            super().v2_on_file_diff(result)

    def _get_diff(self, difflist: Any) -> Any:
        return super()._get_diff(all_printable(difflist))

    @contextlib.contextmanager
    def _in_colours(self) -> Iterator[None]:
        # Colours are escape sequences in the text, which _Printable would make visible.
        printable, self._display = self._display, self._coloured
        try:
            yield
        finally:
            self._display = printable
