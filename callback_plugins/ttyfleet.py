"""Ansible's own output on the screen, in which no text of a host is a command to the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bridge" / "src"))

from ttybridge.model.values import all_printable

DOCUMENTATION = """
name: ttyfleet
type: stdout
short_description: Ansible's default output without control characters of hosts
description:
  - >-
    What a host returns reaches the terminal with its control characters as visible escapes, also
    in an error that Ansible itself shows.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""


class _Printable:
    """Ansible's display; all texts that it is given are made printable first."""

    def __init__(self, display: Any) -> None:
        self._display = display

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._display, name)
        if not callable(attribute):
            return attribute

        def call(*texts: Any, **options: Any) -> Any:
            return attribute(*map(all_printable, texts), **all_printable(options))

        return call


class CallbackModule(Default):  # type: ignore[misc]
    """What Ansible loads."""

    CALLBACK_NAME = "ttyfleet"
    _display: Any

    def __init__(self) -> None:
        super().__init__()
        self._coloured = self._display
        self._display = _Printable(self._display)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show the recap, which has only names of the inventory in it, in colours."""
        with self._in_colours():
            super().v2_playbook_on_stats(stats)

    def v2_on_file_diff(self, result: Any) -> None:
        """Show how a file differs, in colours; `_get_diff` makes it printable before."""
        with self._in_colours():
            super().v2_on_file_diff(result)

    def _get_diff(self, difflist: Any) -> Any:
        return super()._get_diff(all_printable(difflist))

    @contextlib.contextmanager
    def _in_colours(self) -> Iterator[None]:
        # The colours of a part of a text are escape sequences in it.
        printable, self._display = self._display, self._coloured
        try:
            yield
        finally:
            self._display = printable
