"""What the role host read of a host, from the result of Ansible's task."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ttybridge.model.values import all_printable, printable


def reading(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"read", "fault"}: what files/read_host.sh said, or why it said nothing.

    `result` is that of the task which ran the script. Where there is a `fault`, `read` is {}.
    """
    said = _one_line(
        str(result.get("msg", "")).removeprefix("Task failed: "), str(result.get("stderr", ""))
    )
    if result.get("unreachable"):
        return _fault(f"cannot be reached: {said}; see that it is on and that ssh lets you in")
    if result.get("rc", 1):
        return _fault(
            f"cannot become root there: {said}; see that sudo is installed there and asks for no "
            "password, or add --ask-become-pass"
        )
    read = _parsed(str(result.get("stdout", "")))
    if read is None:
        heard = _one_line(str(result.get("stdout", ""))[:200])
        return _fault(f"says what cannot be understood: {heard}; see what its login shell prints")
    return {"read": all_printable(read), "fault": ""}


def _fault(words: str) -> dict[str, Any]:
    return {"read": {}, "fault": words}


def _one_line(*texts: str) -> str:
    return printable(" ".join(" ".join(texts).split()))


def _parsed(text: str) -> dict[str, Any] | None:
    # Imported late: a Pi needs this module's package, and not PyYAML.
    import yaml

    try:
        # As a stream: the texts of ansible-core 2.18 are of a class of their own, which the
        # loader in C does not take.
        found = yaml.load(io.StringIO(text), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return None
    if not isinstance(found, dict) or "fault" not in found:
        return None
    network = found.pop("network")
    return {**found, "listening": [], "clients": [], "sessions": {}, **network}
