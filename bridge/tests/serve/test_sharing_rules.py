"""Who may use a port, as tables: no clock, no connection, no loop."""

from __future__ import annotations

import time

import pytest

from ttybridge.serve.sharing import MOST_WAITING, Admit, Refuse, Sharing, Wait


def sharing(rule: str, max_clients: int, *clients: str) -> Sharing[str]:
    made: Sharing[str] = Sharing(rule, max_clients)
    for client in clients:
        assert made.ask(client) == Admit()
    return made


@pytest.mark.parametrize(
    ("rule", "max_clients", "there", "answer"),
    [
        ("exclusive", 1, [], Admit()),
        ("exclusive", 1, ["a"], Refuse(("a",))),
        ("replace", 1, [], Admit()),
        ("replace", 1, ["a"], Wait("a")),
        ("shared", 2, ["a"], Admit()),
        ("shared", 2, ["a", "b"], Refuse(("a", "b"))),
        ("observed", 2, ["a"], Admit()),
        ("observed", 2, ["a", "b"], Refuse(("a", "b"))),
    ],
)
def test_a_newcomer(rule: str, max_clients: int, there: list[str], answer: object) -> None:
    made = sharing(rule, max_clients, *there)
    room = made.has_room
    assert made.ask("new") == answer
    assert room == (not isinstance(answer, Refuse))


@pytest.mark.parametrize(
    ("rule", "writers"),
    [("exclusive", ["a"]), ("shared", ["a", "b", "c"]), ("observed", ["a"])],
)
def test_who_writes(rule: str, writers: list[str]) -> None:
    made = sharing(rule, 1 if rule == "exclusive" else 3, *"abc"[: 1 if rule == "exclusive" else 3])
    assert [who for who in made.clients if made.may_write(who)] == writers
    assert made.writer == ("a" if rule == "observed" else None)


def test_the_next_observer_writes_when_the_writer_finishes_or_leaves() -> None:
    made = sharing("observed", 3, "a", "b", "c")
    made.finish("a")
    assert made.writer == "b"
    made.leave("b")
    assert made.writer == "c"
    made.leave("c")
    assert made.writer is None
    assert made.clients == ["a"]


def test_one_that_has_finished_makes_room_only_for_a_newcomer() -> None:
    made = sharing("exclusive", 1, "a")
    made.finish("a")
    assert made.clients == ["a"]
    assert made.ask("b") == Admit(("a",))
    assert made.clients == ["b"]


def test_of_many_that_have_finished_as_few_leave_as_needed() -> None:
    made = sharing("shared", 3, "a", "b", "c")
    made.finish("a")
    made.finish("b")
    assert made.ask("d") == Admit(("a",))
    assert made.clients == ["b", "c", "d"]


def test_one_that_waits_replaces_the_client_and_those_who_wait_longer() -> None:
    made = sharing("replace", 1, "a")
    for who in "bcd":
        assert made.ask(who) == Wait("a")
        assert not made.may_write(who)
    assert made.replace("c") == ("a", "b")
    for who in "ab":
        made.leave(who)
    assert (made.clients, made.waiting) == (["c"], ["d"])
    assert made.may_write("c")


def test_the_oldest_that_waits_goes_where_too_many_wait() -> None:
    made = sharing("replace", 1, "a")
    crowd = [f"w{number}" for number in range(MOST_WAITING)]
    assert [made.ask(who) for who in crowd] == [Wait("a")] * MOST_WAITING
    assert made.ask("last") == Wait("a", ("w0",))
    assert made.waiting == [*crowd[1:], "last"]


@pytest.mark.parametrize("rule", ["exclusive", "replace", "shared", "observed"])
def test_a_watcher_keeps_nobody_out_and_never_writes(rule: str) -> None:
    made = sharing(rule, 1)
    made.watch("w")
    assert made.ask("a") == Admit()
    assert [made.may_write(who) for who in "wa"] == [False, True]
    made.leave("a")
    assert not made.may_write("w")
    made.leave("w")
    assert not made.watchers


def test_clients_of_a_restart_are_in_without_being_asked() -> None:
    made = sharing("observed", 2)
    made.readmit("w", watches=True, finished=False)
    made.readmit("a", watches=False, finished=True)
    made.readmit("b", watches=False, finished=False)
    assert (made.clients, [*made.watchers], made.writer) == (["a", "b"], ["w"], "b")


def test_thousands_of_watchers_cost_little() -> None:
    # Each arrival asks of each watcher whether it may write: in a list that took 0.2 s.
    made = sharing("shared", 1)
    for number in range(4000):
        made.watch(str(number))
    began = time.process_time()
    assert not any(made.may_write(who) for who in made.watchers)
    assert time.process_time() - began < 0.03


@pytest.mark.parametrize(
    ("rule", "most", "there", "replaced", "writers"),
    [
        ("exclusive", 1, "a", ("a",), ["new"]),
        ("replace", 1, "a", ("a",), ["new"]),
        ("observed", 3, "ab", (), ["new"]),
        ("observed", 2, "ab", ("a",), ["new"]),
        ("shared", 3, "ab", (), ["new", "a", "b"]),
        ("shared", 2, "ab", ("a",), ["new", "b"]),
    ],
)
@pytest.mark.parametrize("watched", [True, False])
def test_who_takes_over_writes_at_once(
    rule: str, most: int, there: str, replaced: tuple[str, ...], writers: list[str], watched: bool
) -> None:
    made = sharing(rule, most, *there)
    if watched:
        made.watch("new")
    assert made.take("new") == replaced
    for who in replaced:
        made.leave(who)
    assert [who for who in made.clients if made.may_write(who)] == writers
    assert not made.watchers


def test_who_takes_over_also_replaces_candidates_and_first_who_has_finished() -> None:
    made = sharing("replace", 1, "a")
    made.ask("b")
    assert made.take("new") == ("a", "b")
    made = sharing("shared", 2, "a", "b")
    made.finish("b")
    assert made.take("new") == ("b",)


def test_a_watcher_writes_where_there_is_room() -> None:
    made = sharing("exclusive", 1, "a")
    made.watch("b")
    assert made.write("b") is None
    assert not made.may_write("b")
    made.finish("a")
    assert made.write("b") == ("a",)
    assert made.may_write("b")
