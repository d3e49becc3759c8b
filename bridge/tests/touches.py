"""What a change of each key of a port closes, as the model says it."""

from __future__ import annotations

from collections.abc import Iterator

from ttybridge.model.ports import Port
from ttybridge.model.values import Listeners, OffOr, Table, keys_of


def touches(model: type = Port, prefix: str = "") -> Iterator[tuple[str, str]]:
    """What a change of each key closes: the rows of the table in docs/port-map.md."""
    for name, key in keys_of(model).items():
        yield prefix + name, key.metadata["touches"]
        kind = key.metadata["kind"]
        inner = kind.kind if isinstance(kind, OffOr) else kind
        if isinstance(inner, Listeners) or (isinstance(inner, Table) and prefix != "listen."):
            yield from touches(inner.model, f"{prefix}{name}.")
