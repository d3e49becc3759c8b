"""The telnet codec against its RFCs, and against whatever else may come."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttybridge.protocol.telnet import (
    ABORT,
    AYT,
    BINARY,
    BRK,
    COM_PORT,
    DO,
    DONT,
    EC,
    ECHO,
    EL,
    EOF,
    IAC,
    IP,
    MOST_SUBNEGOTIATION,
    NOP,
    SB,
    SE,
    SGA,
    SUSP,
    TIMING_MARK,
    WILL,
    WONT,
    AreYouThere,
    Break,
    Data,
    Disabled,
    Enabled,
    Event,
    Subnegotiation,
    Telnet,
    TelnetState,
    subnegotiation,
)
from ttybridge.serve import handover

TERMINAL_TYPE = 24
AO, DM, GA = 245, 242, 249

# Bytes that mean something, so that short streams meet every state.
BYTES = st.sampled_from(
    [0, 1, 3, 6, 10, 13, 24, 44, 65, SE, NOP, IP, BRK, AYT, SB, WILL, WONT, DO, DONT]
)
STREAMS = st.lists(BYTES | st.just(IAC) | st.integers(0, 255), max_size=40).map(bytes)


def server() -> Telnet:
    """A server that has asked for everything, with what it said taken away."""
    telnet = Telnet(accept=(COM_PORT,))
    telnet.start()
    telnet.data_to_send()
    return telnet


def agreed(*pairs: tuple[int, int]) -> Telnet:
    """A server whose client has said some verbs."""
    telnet = server()
    telnet.receive(verbs(*pairs))
    telnet.data_to_send()
    return telnet


def verbs(*pairs: tuple[int, int]) -> bytes:
    return b"".join(bytes((IAC, *pair)) for pair in pairs)


def said(data: bytes) -> list[tuple[int, int]]:
    """The verbs and options in what a server sends."""
    return [(verb, option) for _, verb, option in zip(*[iter(data)] * 3, strict=True)]


def joined(events: list[Event]) -> list[Event]:
    """Events with neighbouring data put together."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Data) and result and isinstance(result[-1], Data):
            result[-1] = Data(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        yield data[begin:end]


def text(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Data))


# What the RFCs say, example by example.


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"plain text", [Data(b"plain text")]),
        (b"", []),
        # RFC 854: the only byte that is doubled.
        (b"a\xff\xffb", [Data(b"a\xffb")]),
        (b"\xff\xff\xff\xff", [Data(b"\xff\xff")]),
        (b"\xff\xff\xff\xf1\xff\xff", [Data(b"\xff\xff")]),
        # RFC 1123, section 3.3.1: CR LF and CR NUL are both the end of a line; a bare LF is an LF.
        (b"a\r\0b", [Data(b"a\rb")]),
        (b"a\r\nb", [Data(b"a\rb")]),
        (b"a\0b\n\0", [Data(b"a\0b\n\0")]),
        (b"\r\0\0", [Data(b"\r\0")]),
        (b"\r\0\n", [Data(b"\r\n")]),
        (b"\r\n\0", [Data(b"\r\0")]),
        (b"\r\n\n", [Data(b"\r\n")]),
        (b"\r\r\0", [Data(b"\r\r")]),
        (b"\r\r\n", [Data(b"\r\r")]),
        (b"\n\r", [Data(b"\n\r")]),
        (b"\r\xff\xff\0", [Data(b"\r\xff\0")]),
        # A command between both does not part them.
        (b"\r\xff\xf1\0x", [Data(b"\rx")]),
        (b"\r\xff\xf1\nx", [Data(b"\rx")]),
        # RFC 854, page 13: commands. Break, are-you-there and keys count, the others are taken out.
        (b"a\xff\xf3b", [Data(b"a"), Break(), Data(b"b")]),
        (b"a\xff\xf6b", [Data(b"a"), AreYouThere(), Data(b"b")]),
        *((b"a" + bytes((IAC, code)) + b"b", [Data(b"ab")]) for code in (SE, NOP, DM, AO, GA)),
        *(
            (b"a" + bytes((IAC, command)) + b"b", [Data(b"a" + key + b"b")])
            for command, key in [
                (IP, b"\x03"),
                (EC, b"\x7f"),
                (EL, b"\x15"),
                (EOF, b"\x04"),
                (SUSP, b"\x1a"),
                (ABORT, b"\x1c"),
            ]
        ),
        # What a telnet in line mode sends for Ctrl-C, with the urgent byte of a Synch in its place.
        (b"x" + bytes((IAC, IP, IAC, DM, IAC, DO, TIMING_MARK)) + b"y", [Data(b"x\x03y")]),
        # Nothing of the RFC's: taken out as well.
        (b"a\xff\x07b", [Data(b"ab")]),
        # RFC 855: what an option that was not agreed has to say is not listened to.
        (b"a" + subnegotiation(TERMINAL_TYPE, b"\0xterm") + b"b", [Data(b"ab")]),
        (b"a" + subnegotiation(COM_PORT, b"\x01\0\0\0\0") + b"b", [Data(b"ab")]),
        (bytes((IAC, SB, IAC, SE)) + b"b", [Data(b"b")]),
    ],
)
def test_what_a_client_says(stream: bytes, events: list[Event]) -> None:
    assert joined(server().receive(stream)) == events
    one_by_one = server()
    bytewise = [event for byte in stream for event in one_by_one.receive(bytes([byte]))]
    assert joined(bytewise) == events


def test_a_server_asks_for_character_mode_and_eight_bits_once() -> None:
    telnet = Telnet(accept=(COM_PORT,))
    telnet.start()
    assert sorted(said(telnet.data_to_send())) == sorted(
        [(WILL, ECHO), (WILL, SGA), (WILL, BINARY), (DO, SGA), (DO, BINARY)]
    )
    assert telnet.data_to_send() == b""


def test_what_was_asked_for_and_is_agreed_is_not_answered() -> None:
    telnet = server()
    agreement = verbs((DO, ECHO), (DO, SGA), (DO, BINARY), (WILL, SGA), (WILL, BINARY))
    assert telnet.receive(agreement) == [Enabled(SGA), Enabled(BINARY)]
    assert telnet.data_to_send() == b""
    # Said again it changes nothing, and is still not answered: else two sides loop for ever.
    assert telnet.receive(agreement * 3) == []
    assert telnet.data_to_send() == b""
    # What the client offers is agreed to, once.
    assert telnet.receive(verbs((WILL, COM_PORT), (WILL, COM_PORT))) == [Enabled(COM_PORT)]
    assert said(telnet.data_to_send()) == [(DO, COM_PORT)]
    telnet.receive(verbs((WILL, COM_PORT)))
    assert telnet.data_to_send() == b""


@pytest.mark.parametrize(
    ("before", "now", "answer"),
    [
        # RFC 1143, section 7; first what the client asks for by itself.
        ([], (WILL, TERMINAL_TYPE), [(DONT, TERMINAL_TYPE)]),
        ([], (DO, TERMINAL_TYPE), [(WONT, TERMINAL_TYPE)]),
        ([], (WONT, TERMINAL_TYPE), []),
        ([], (DONT, TERMINAL_TYPE), []),
        # A client that echoes for a server, or a server that is one: not here.
        ([], (WILL, ECHO), [(DONT, ECHO)]),
        ([], (DO, COM_PORT), [(WONT, COM_PORT)]),
        # Refused each time that it is offered: who asks again has an answer again.
        ([(WILL, TERMINAL_TYPE)], (WILL, TERMINAL_TYPE), [(DONT, TERMINAL_TYPE)]),
        ([(DO, TERMINAL_TYPE)], (DO, TERMINAL_TYPE), [(WONT, TERMINAL_TYPE)]),
        ([(WILL, TERMINAL_TYPE)], (WONT, TERMINAL_TYPE), []),
        ([(DO, TERMINAL_TYPE)], (DONT, TERMINAL_TYPE), []),
        (
            [(WILL, TERMINAL_TYPE), (WONT, TERMINAL_TYPE)],
            (WILL, TERMINAL_TYPE),
            [(DONT, TERMINAL_TYPE)],
        ),
        # RFC 860: a mark each time that one is asked for. It lasts for nothing, so nothing ends it.
        ([], (DO, TIMING_MARK), [(WILL, TIMING_MARK)]),
        ([(DO, TIMING_MARK)], (DO, TIMING_MARK), [(WILL, TIMING_MARK)]),
        ([(DO, TIMING_MARK)], (DONT, TIMING_MARK), []),
        ([(DO, TIMING_MARK), (DONT, TIMING_MARK)], (DO, TIMING_MARK), [(WILL, TIMING_MARK)]),
        # A mark that the server has not asked for is an offer like any other.
        ([], (WILL, TIMING_MARK), [(DONT, TIMING_MARK)]),
        ([(WILL, TIMING_MARK)], (WILL, TIMING_MARK), [(DONT, TIMING_MARK)]),
        ([(WILL, TIMING_MARK)], (WONT, TIMING_MARK), []),
        # The two directions of an option have nothing to do with each other.
        ([(WILL, TERMINAL_TYPE)], (DO, TERMINAL_TYPE), [(WONT, TERMINAL_TYPE)]),
        ([(WONT, BINARY)], (DO, BINARY), []),
        # What the server asked for and does not get: not answered, and not asked for again.
        ([], (WONT, BINARY), []),
        ([], (DONT, BINARY), []),
        ([(WONT, BINARY)], (WONT, BINARY), []),
        # A change of mind is agreed to, each time.
        ([(WONT, BINARY)], (WILL, BINARY), [(DO, BINARY)]),
        ([(DONT, BINARY)], (DO, BINARY), [(WILL, BINARY)]),
        ([(WILL, BINARY)], (WONT, BINARY), [(DONT, BINARY)]),
        ([(DO, BINARY)], (DONT, BINARY), [(WONT, BINARY)]),
        ([(DO, BINARY), (DONT, BINARY)], (DO, BINARY), [(WILL, BINARY)]),
    ],
)
def test_negotiation(
    before: list[tuple[int, int]], now: tuple[int, int], answer: list[tuple[int, int]]
) -> None:
    telnet = agreed(*before)
    telnet.receive(verbs(now))
    assert said(telnet.data_to_send()) == answer


def test_every_offer_that_the_server_does_not_take_is_refused_each_time() -> None:
    telnet = server()
    for option in range(256):
        refusals = [(WILL, (DONT, option))] if option not in (BINARY, SGA, COM_PORT) else []
        if option not in (BINARY, SGA, ECHO, TIMING_MARK):
            refusals.append((DO, (WONT, option)))
        for verb, refusal in refusals * 3:
            telnet.receive(verbs((verb, option)))
            assert said(telnet.data_to_send()) == [refusal]


def test_a_timing_mark_is_nothing_that_is_agreed_on() -> None:
    telnet, before = server(), server()
    telnet.receive(verbs((DO, TIMING_MARK), (DO, TIMING_MARK)))
    assert (telnet.state.ours, telnet.state.theirs) == (before.state.ours, before.state.theirs)


def test_a_state_of_a_version_that_remembered_refusals_is_read() -> None:
    state = handover._build(TelnetState, {"theirs": {"24": "refused", "0": "yes"}, "at": "data"})
    telnet = Telnet(state=state)
    assert telnet.client_does(BINARY)
    telnet.receive(verbs((WILL, TERMINAL_TYPE)))
    assert said(telnet.data_to_send()) == [(DONT, TERMINAL_TYPE)]


def test_an_option_that_ends_says_so_once() -> None:
    telnet = agreed((WILL, COM_PORT))
    assert telnet.receive(verbs((WONT, COM_PORT), (WONT, COM_PORT))) == [Disabled(COM_PORT)]
    assert telnet.receive(subnegotiation(COM_PORT, b"\0")) == []
    assert telnet.receive(verbs((WILL, COM_PORT))) == [Enabled(COM_PORT)]
    assert telnet.receive(subnegotiation(COM_PORT, b"\0")) == [Subnegotiation(COM_PORT, b"\0")]


def test_binary_is_each_directions_own() -> None:
    """RFC 856: agreed for one direction it says nothing of the other."""
    client_is_binary = agreed((WILL, BINARY))
    assert client_is_binary.receive(b"a\r\0b\r\n") == [Data(b"a\r\0b\r\n")]
    assert client_is_binary.encode(b"a\rb") == b"a\r\0b"
    server_is_binary = agreed((DO, BINARY))
    assert server_is_binary.receive(b"a\r\0b\r\n") == [Data(b"a\rb\r")]
    assert server_is_binary.encode(b"a\rb") == b"a\rb"
    both = agreed((WILL, BINARY), (DO, BINARY))
    assert both.receive(b"\r\0\r\n\xff\xff") == [Data(b"\r\0\r\n\xff")]
    assert both.encode(b"\r\0\r\n\xff") == b"\r\0\r\n\xff\xff"


def test_a_client_of_the_port_option_means_the_lines_own_bytes() -> None:
    """Also where it has refused BINARY, as microcom does."""
    telnet = agreed((WILL, COM_PORT), (WONT, BINARY), (DONT, BINARY))
    assert telnet.receive(b"\r\0\r\n\xff\xff") == [Data(b"\r\0\r\n\xff")]
    assert telnet.encode(b"\r\0\ra\xff") == b"\r\0\ra\xff\xff"


def test_binary_ends_what_a_carriage_return_began() -> None:
    telnet = server()
    assert telnet.receive(b"\r" + verbs((WILL, BINARY)) + b"\0") == [
        Data(b"\r"),
        Enabled(BINARY),
        Data(b"\0"),
    ]
    assert telnet.receive(b"x" + verbs((WONT, BINARY)) + b"\0")[-1] == Data(b"\0")
    assert telnet.encode(b"\r") == b"\r"
    telnet.receive(verbs((DO, BINARY)))
    assert telnet.encode(b"x") == b"x"
    telnet.receive(verbs((DONT, BINARY)))
    assert telnet.encode(b"y") == b"y"


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ([b"a\r\nb"], b"a\r\nb"),
        ([b"a\rb"], b"a\r\0b"),
        ([b"a\r", b"\nb"], b"a\r\nb"),
        ([b"a\r", b"b"], b"a\r\0b"),
        ([b"a\r", b"", b"b"], b"a\r\0b"),
        ([b"\r\r\r\n"], b"\r\0\r\0\r\n"),
        ([b"\r\0"], b"\r\0\0"),
        ([b"\r\xff"], b"\r\0\xff\xff"),
        ([b"\xff", b"\xff\xff"], b"\xff" * 6),
    ],
)
def test_what_a_client_is_sent(data: list[bytes], sent: bytes) -> None:
    telnet = server()
    assert b"".join(telnet.encode(part) for part in data) == sent


def test_a_subnegotiation_may_hold_every_byte() -> None:
    payload = bytes(range(255, -1, -1))[: MOST_SUBNEGOTIATION - 1]
    telnet = agreed((WILL, COM_PORT))
    assert telnet.receive(b"a" + subnegotiation(COM_PORT, payload) + b"b") == [
        Data(b"a"),
        Subnegotiation(COM_PORT, payload),
        Data(b"b"),
    ]


def test_a_subnegotiation_that_is_too_long_is_forgotten_and_the_next_counts() -> None:
    telnet = agreed((WILL, COM_PORT))
    long = subnegotiation(COM_PORT, b"\xff" * 100_000)
    for begin in range(0, len(long), 9999):
        assert telnet.receive(long[begin : begin + 9999]) == []
        assert len(telnet.state.subnegotiation) <= MOST_SUBNEGOTIATION + 1
    assert telnet.receive(subnegotiation(COM_PORT, b"\0")) == [Subnegotiation(COM_PORT, b"\0")]


@pytest.mark.parametrize("command", [BRK, AYT, SB])
def test_a_subnegotiation_that_is_cut_off_by_a_command_is_forgotten(command: int) -> None:
    telnet = agreed((WILL, COM_PORT))
    cut = bytes((IAC, SB, COM_PORT, 1, 0, 0, IAC, command))
    events = {BRK: [Break()], AYT: [AreYouThere()], SB: []}[command]
    assert telnet.receive(cut) == events
    rest = b"" if command == SB else bytes((IAC, SB))
    assert telnet.receive(rest + b"\x2c\x00" + bytes((IAC, SE))) == [
        Subnegotiation(COM_PORT, b"\0")
    ]


def test_a_negotiation_in_a_subnegotiation_counts() -> None:
    telnet = agreed((WILL, COM_PORT))
    assert telnet.receive(bytes((IAC, SB, COM_PORT, 1)) + verbs((WONT, COM_PORT))) == [
        Disabled(COM_PORT)
    ]


# Whatever may come.


@given(STREAMS, st.lists(st.integers(0, 40), max_size=6))
def test_how_a_stream_is_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    whole, parts = agreed((WILL, COM_PORT)), agreed((WILL, COM_PORT))
    events = [event for piece in pieces(stream, cuts) for event in parts.receive(piece)]
    assert joined(events) == joined(whole.receive(stream))
    assert parts.data_to_send() == whole.data_to_send()
    assert parts.state == whole.state


@given(st.lists(BYTES | st.just(IAC) | st.integers(0, 255)).map(bytes), st.lists(st.integers(0)))
@pytest.mark.parametrize("binary", [False, True])
def test_both_directions_carry_every_byte(binary: bool, data: bytes, cuts: list[int]) -> None:
    """One codec's encode is the other's receive, however both streams are cut.

    But the end of a line, for which a device says CR LF and a client means CR.
    """
    options = [(WILL, BINARY), (DO, BINARY)] if binary else [(WONT, BINARY), (DONT, BINARY)]
    here, there = agreed(*options), agreed(*options)
    sent = b"".join(here.encode(piece) for piece in pieces(data, cuts))
    received = text([event for piece in pieces(sent, cuts) for event in there.receive(piece)])
    assert received == (data if binary else data.replace(b"\r\n", b"\r"))
    assert there.data_to_send() == b""


def test_each_single_byte_and_each_pair_arrives() -> None:
    pairs = [bytes((first, second)) for first in (0, 10, 13, 255) for second in range(256)]
    for data in [*(bytes([byte]) for byte in range(256)), *pairs]:
        for options in ([], [(WILL, BINARY), (DO, BINARY)]):
            here, there = agreed(*options), agreed(*options)
            expected = data if options else data.replace(b"\r\n", b"\r")
            assert text(there.receive(here.encode(data))) == expected


@given(st.lists(st.binary(max_size=200) | STREAMS, max_size=30))
def test_nothing_that_comes_raises_or_piles_up(packets: list[bytes]) -> None:
    telnet, received, given_on, answered = server(), 0, 0, 0
    for packet in packets:
        received += len(packet)
        given_on += len(text(telnet.receive(packet)))
        # At most one answer to each command, and an answer is as long as its command.
        answered += len(telnet.data_to_send())
    assert given_on + answered <= received
    state = telnet.state
    assert len(state.subnegotiation) <= MOST_SUBNEGOTIATION + 1
    assert len(state.ours) <= 256
    assert len(state.theirs) <= 256


@settings(max_examples=20, deadline=None)
@given(st.integers(0))
def test_a_storm_of_random_bytes_leaves_a_codec_that_works(seed: int) -> None:
    noise = Random(seed).randbytes(50_000)
    telnet = server()
    telnet.receive(noise)
    # Whatever state that left: two SE end every command and every subnegotiation.
    telnet.receive(bytes((SE, IAC, SE, IAC, SE)))
    telnet.receive(verbs((WONT, COM_PORT)) + verbs((WILL, COM_PORT), (WILL, BINARY)))
    assert telnet.receive(b"x" + subnegotiation(COM_PORT, b"\xff") + b"y") == [
        Data(b"x"),
        Subnegotiation(COM_PORT, b"\xff"),
        Data(b"y"),
    ]


class Peer:
    """A client that wants some options, agrees or not, and says so whenever it is spoken to.

    It takes a refusal of what the server never does: one that offers that again breaks RFC 854, and
    is refused again for as long as it does.
    """

    def __init__(self, will: set[int], do: set[int], answers: set[int]) -> None:
        self.will, self.do, self.answers = will, do, answers

    def receive(self, data: bytes) -> bytes:
        return b"".join(
            bytes((IAC, self._reply(verb, option), option))
            for verb, option in said(data)
            if verb in self.answers
        )

    def _reply(self, verb: int, option: int) -> int:
        if verb in (DO, DONT):
            refused = verb == DONT and option not in (BINARY, SGA, COM_PORT)
            return WILL if option in self.will and not refused else WONT
        refused = verb == WONT and option not in (BINARY, SGA, ECHO)
        return DO if option in self.do and not refused else DONT


OPTIONS = st.sets(st.sampled_from([BINARY, ECHO, SGA, COM_PORT, TERMINAL_TYPE, 31]))
ANY_VERBS = st.lists(
    st.tuples(st.sampled_from([WILL, WONT, DO, DONT]), st.sampled_from([0, 1, 3, 24, 31, 44, 255])),
    max_size=30,
)


@given(OPTIONS, OPTIONS, st.sets(st.sampled_from([WILL, WONT, DO, DONT])), ANY_VERBS)
def test_negotiation_with_a_stubborn_client_ends(
    will: set[int], do: set[int], answers: set[int], first: list[tuple[int, int]]
) -> None:
    telnet, peer = Telnet(accept=(COM_PORT,)), Peer(will, do, answers)
    telnet.start()
    telnet.receive(verbs(*first))
    for _ in range(4):
        telnet.receive(peer.receive(telnet.data_to_send()))
    assert telnet.data_to_send() == b""


@given(OPTIONS, OPTIONS, st.booleans(), st.lists(st.booleans(), max_size=20))
def test_negotiation_of_the_codec_with_itself_ends(
    here_accepts: set[int], there_accepts: set[int], both_start: bool, turns: list[bool]
) -> None:
    here, there = Telnet(accept=tuple(here_accepts)), Telnet(accept=tuple(there_accepts))
    here.start()
    if both_start:
        there.start()
    for turn in [*turns, *(True, False) * 4]:
        sender, receiver = (here, there) if turn else (there, here)
        receiver.receive(sender.data_to_send())
    assert here.data_to_send() == there.data_to_send() == b""
    for option in (BINARY, SGA):
        assert here.client_does(option)
        assert there.client_does(option)
