"""Who keeps a place for a TLS handshake, and who loses it."""

from __future__ import annotations

import pytest

from ttybridge.net.handshakes import PLACES, PLACES_OF_ONE, Handshakes, network_of, size_of_hello


def come(places: Handshakes[str], who: str, address: str) -> str | None:
    """Let a newcomer have a place; return who lost it for that."""
    gone = places.who_must_go(address)
    if gone is not None:
        places.remove(gone)
    places.add(who, address)
    return gone


def filled(*addresses: str) -> Handshakes[str]:
    """Places that are all taken, in turns by the addresses: a0, b0, a1, b1, ..."""
    places: Handshakes[str] = Handshakes()
    for number in range(PLACES // len(addresses)):
        for name, address in zip("abcdefgh", addresses, strict=False):
            assert come(places, f"{name}{number}", address) is None
    return places


def test_nobody_goes_while_places_are_free() -> None:
    places: Handshakes[str] = Handshakes()
    assert [come(places, str(n), f"192.0.2.{n}") for n in range(PLACES)] == [None] * PLACES


def test_an_address_has_no_more_than_its_share() -> None:
    places: Handshakes[str] = Handshakes()
    for number in range(PLACES_OF_ONE):
        assert come(places, str(number), "192.0.2.1") is None
    assert come(places, "more", "192.0.2.1") == "0"
    assert come(places, "other", "192.0.2.2") is None


def test_a_newcomer_takes_the_place_of_the_oldest_of_who_has_the_most() -> None:
    places = filled("192.0.2.1", "192.0.2.2")
    places.remove("b0")
    places.add("c", "192.0.2.3")
    assert come(places, "d", "192.0.2.4") == "a0"
    assert come(places, "e", "192.0.2.5") == "a1"


def test_who_has_said_something_stays_longer_than_who_has_not() -> None:
    places = filled("192.0.2.1", "192.0.2.2")
    for number in range(10):
        places.has_spoken(f"a{number}")
    assert not places.is_silent("a0")
    assert come(places, "new", "192.0.2.1") == "a10"


def test_where_all_talk_the_oldest_goes() -> None:
    places = filled("192.0.2.1", "192.0.2.2")
    for who in places:
        places.has_spoken(who)
    assert come(places, "new", "192.0.2.2") == "b0"


def test_a_newcomer_is_safe_from_as_many_addresses_as_there_are_places() -> None:
    places: Handshakes[str] = Handshakes()
    for number in range(PLACES):
        come(places, str(number), f"192.0.2.{number}")
    come(places, "good", "198.51.100.1")
    gone = [come(places, f"x{n}", f"203.0.113.{n}") for n in range(PLACES - 1)]
    assert "good" not in gone


def test_who_has_gone_already_is_no_fault() -> None:
    places: Handshakes[str] = Handshakes()
    places.remove("nobody")
    assert not places.is_silent("nobody")
    assert "nobody" not in places


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::2:3:4:5", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_an_ipv6_host_counts_by_its_network(one: str, other: str, alike: bool) -> None:
    assert (network_of(one) == network_of(other)) == alike


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (b"", 0),
        (b"\x16", 5),
        (b"\x16\x03\x01\x02", 5),
        (b"\x16\x03\x01\x02\x00", 517),
        (b"\x16\x03\x01\x02\x00" + bytes(600), 517),
        (b"\x16\x03\x01\x40\x00", 16389),
        # No TLS: there is nothing to wait for.
        (b"\x16\x03\x01\x40\x01", 5),
        (b"GET", 3),
    ],
)
def test_a_handshake_begins_when_its_first_record_is_there(said: bytes, size: int) -> None:
    assert size_of_hello(said) == size
