"""What may block is done in a thread: in order, one after the other, and the event loop goes on."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator

import pytest

from conftest import TIMEOUT, in_each_loop, until
from ttybridge.line.worker import Worker


class Gate:
    """A job that ends when it is let through."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.is_there = False

    def __call__(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.is_there = True
        assert self.event.wait(TIMEOUT)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open after the test."""
    made = Gate()
    yield made
    made.event.set()


async def done(worker: Worker) -> None:
    """Wait until a worker has done all."""
    await until(lambda: not worker.is_busy, "all jobs are done")


@in_each_loop
async def test_jobs_are_done_in_order_while_the_event_loop_goes_on(gate: Gate) -> None:
    worker, order = Worker(), []
    worker.do(gate, lambda error: order.append("gate is told"))
    worker.do(lambda: order.append("job"), lambda error: order.append("job is told"))
    await until(lambda: gate.is_there, "the first job is under way")
    assert worker.is_busy
    assert order == []
    gate.event.set()
    await done(worker)
    assert order == ["gate is told", "job", "job is told"]


async def test_what_is_asked_for_when_a_job_has_ended_comes_after_those_that_wait() -> None:
    worker, order = Worker(), []
    worker.do(lambda: None, lambda error: worker.do(lambda: order.append("later")))
    worker.do(lambda: order.append("sooner"))
    await done(worker)
    assert order == ["sooner", "later"]


async def test_what_a_job_raises_is_told_and_the_next_one_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker, told = Worker(), list[Exception | None]()

    def fail() -> None:
        raise OSError("it is gone")

    worker.do(fail, told.append)
    worker.do(fail)
    worker.do(lambda: None, told.append)
    await done(worker)
    assert [str(error) for error in told] == ["it is gone", "None"]
    assert "a device cannot be set: it is gone" in caplog.text


async def test_who_fails_when_it_is_told_does_not_stop_the_next_job() -> None:
    worker, order, failures = Worker(), list[str](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))

    def fail(error: Exception | None) -> None:
        raise ValueError("no")

    worker.do(lambda: None, fail)
    worker.do(lambda: order.append("next"))
    await done(worker)
    assert order == ["next"]
    assert len(failures) == 1


async def test_others_are_kept_out_only_while_it_is_necessary(gate: Gate) -> None:
    worker, held = Worker(), list[bool]()
    worker.on_hold = held.append
    worker.do(gate)
    worker.do(lambda: None, lambda error: held.append(False), holds=True)
    worker.do(lambda: None, holds=True)
    worker.do(lambda: None)
    await until(lambda: gate.is_there, "the first job is under way")
    assert held == []
    gate.event.set()
    await done(worker)
    # The `then` of the first one that holds comes before the end of the second.
    assert held == [True, False, False]


async def test_a_job_that_takes_long_is_known_as_stuck(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    assert worker.busy_for == 0
    worker.do(gate)
    assert not worker.is_stuck
    monkeypatch.setattr("ttybridge.line.worker.STUCK_SECONDS", 0.01)
    await until(lambda: worker.is_stuck, "the job takes long")
    gate.event.set()
    await done(worker)
    assert not worker.is_stuck


async def test_of_what_is_forgotten_nothing_is_told_or_done(gate: Gate) -> None:
    worker, told = Worker(), list[str]()
    worker.on_hold = lambda on: told.append(f"holds: {on}")
    worker.do(gate, lambda error: told.append("gate"), holds=True)
    worker.do(lambda: told.append("job"))
    worker.forget()
    worker.do(lambda: told.append("after it"))
    gate.event.set()
    await done(worker)
    assert told == ["holds: True", "after it"]


async def test_a_thread_ends_when_there_is_nothing_more_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ttybridge.line.worker.LINGER_SECONDS", 0.001)
    worker, threads = Worker(), set[threading.Thread]()
    for _ in range(20):  # it is about to end, or has ended, when the next one comes
        worker.do(lambda: threads.add(threading.current_thread()))
        await done(worker)
        await asyncio.sleep(0.001)
    await until(lambda: not any(each.is_alive() for each in threads), "no thread is left")


async def test_where_no_thread_can_be_started_the_job_is_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    worker, order = Worker(), list[str]()
    for name in ("one", "two"):
        worker.do(functools.partial(order.append, name))
    await done(worker)
    assert order == ["one", "two"]


def test_a_job_that_ends_after_the_loop_harms_nobody(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttybridge.line.worker.LINGER_SECONDS", 0.001)
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    before = {*threading.enumerate()}

    async def begin() -> None:
        Worker().do(gate)

    asyncio.run(begin())
    (thread,) = {*threading.enumerate()} - before
    gate.event.set()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert failures == []
