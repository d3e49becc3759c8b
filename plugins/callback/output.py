"""Ansible's default output, without control characters in texts of hosts."""

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
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""


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
