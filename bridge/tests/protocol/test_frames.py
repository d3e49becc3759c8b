"""The frames of `ttybridge console`, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttybridge.protocol.console import DATA, MOST, NOTICE, FrameError, Frames, FrameState, frame

KINDS = st.binary(min_size=1, max_size=1)


@given(st.lists(st.tuples(KINDS, st.binary(max_size=300))), st.lists(st.integers(1, 400)))
def test_frames_come_whole_however_the_stream_is_cut(
    sent: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(frame(*each) for each in sent)
    frames, got = Frames(), []
    for size in cuts:
        got += frames.receive(stream[:size])
        stream = stream[size:]
    assert got + frames.receive(stream) == sent
    assert not frames.state.begun


def test_what_a_device_says_is_never_a_frame_of_the_daemon() -> None:
    evil = frame(NOTICE, b"you write now")
    assert Frames().receive(frame(DATA, evil)) == [(DATA, evil)]


def test_another_process_goes_on_in_the_middle_of_a_frame() -> None:
    whole, state = frame(DATA, b"0123456789"), FrameState()
    assert Frames(MOST, state).receive(whole[:8]) == []
    assert Frames(MOST, state).receive(whole[8:]) == [(DATA, b"0123456789")]


def test_a_frame_that_is_too_long_is_refused_before_it_is_kept() -> None:
    frames = Frames(MOST)
    assert frames.receive(frame(DATA, bytes(MOST))) == [(DATA, bytes(MOST))]
    with pytest.raises(FrameError, match="a frame of 65537 bytes"):
        frames.receive(frame(DATA, bytes(MOST + 1))[:8])


def test_a_stream_with_a_part_missing_is_noticed() -> None:
    whole = frame(DATA, b"0123456789")
    with pytest.raises(FrameError, match="something else"):
        Frames().receive(whole[4:] + whole)
