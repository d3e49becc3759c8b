"""The ring with the last bytes of a device."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttybridge.serve.replay import Replay


@given(st.integers(1, 40), st.lists(st.binary(max_size=100)), st.integers(0, 200))
def test_the_last_bytes_are_those_that_were_added_last(
    size: int, chunks: list[bytes], asked: int
) -> None:
    with contextlib.closing(Replay(size)) as replay:
        for chunk in chunks:
            replay.add(chunk)
        whole = b"".join(chunks)
        wanted = min(size, asked)
        assert replay.last(asked) == (whole[-wanted:] if wanted else b"")


@given(st.integers(1, 40), st.lists(st.binary(max_size=100), min_size=1), st.binary(max_size=40))
def test_another_process_goes_on_with_it(size: int, chunks: list[bytes], more: bytes) -> None:
    with contextlib.closing(Replay(size)) as replay:
        for chunk in chunks:
            replay.add(chunk)
        with contextlib.closing(Replay.of(os.dup(replay.fileno()))) as other:
            assert other.last(size) == replay.last(size)
            other.add(more)
            assert other.last(size) == (b"".join(chunks) + more)[-size:]


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"replay 1" + bytes(16)])
def test_another_file_is_not_taken(content: bytes) -> None:
    descriptor = os.memfd_create("other")
    os.write(descriptor, content)
    with pytest.raises(ValueError, match="not a replay"):
        Replay.of(descriptor)
    os.close(descriptor)


def test_it_takes_memory_only_for_what_is_in_it() -> None:
    with contextlib.closing(Replay(64 * 1024 * 1024)) as replay:
        replay.add(b"x" * 10_000)
        assert os.fstat(replay.fileno()).st_blocks * 512 < 65536
