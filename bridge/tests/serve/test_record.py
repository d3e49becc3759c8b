"""The memory file that outlives the process."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttybridge.serve.record import MemoryFile


def written(*records: bytes) -> MemoryFile:
    file = MemoryFile()
    for record in records:
        file.write(record)
    return file


@pytest.mark.parametrize("number", range(1, 6))
def test_the_last_record_is_read(number: int) -> None:
    records = [bytes([each]) * 1000 * each for each in range(1, number + 1)]
    file = written(*records)
    try:
        assert MemoryFile(os.dup(file.fileno())).read() == records[-1]
    finally:
        file.close()


def test_a_file_without_a_record_has_none() -> None:
    file = written()
    assert file.read() is None
    file.close()


@given(st.integers(min_value=0, max_value=1200), st.binary(min_size=1, max_size=30))
def test_a_record_that_is_not_whole_leaves_the_one_before(at: int, nonsense: bytes) -> None:
    file = written(b"a" * 500, b"b" * 600, b"c" * 700)
    whole = {b"b" * 600, b"c" * 700}
    # The third is where the first was.
    os.pwrite(file.fileno(), nonsense, (1 << 30) + at)
    found = file.read()
    assert found in whole
    file.close()


def test_another_file_is_not_read() -> None:
    file = MemoryFile(os.memfd_create("other"))
    os.write(file.fileno(), b"x" * 5000)
    assert file.read() is None
    file.close()


def test_a_record_takes_little_memory() -> None:
    file = written(b"x" * 5000, b"y" * 5000)
    assert os.fstat(file.fileno()).st_blocks * 512 < 32768
    file.close()


def test_who_begins_to_read_is_counted() -> None:
    file = written(b"x")
    assert [file.begin_to_read() for _ in range(3)] == [1, 2, 3]
    assert file.read() == b"x"
    file.close()
