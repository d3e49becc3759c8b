"""What a newcomer is shown of the past asks its terminal for nothing, and lacks nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import Adapter, MakePort, Serve
from rfc2217_client import Rfc2217Client
from ttybridge.protocol.terminal import without_questions

ST = b"\x1b\\"

# By what a terminal answers them with, in xterm's words. CSI, OSC, DCS and APC with seven bits; the
# tests make the others of them.
QUESTIONS = [
    b"\x05",  # answerback
    b"\x1bZ",  # DECID, also in VT52 mode
    *(b"\x1b[" + words for words in (b"c", b"0c", b">c", b">0c", b"=c", b"=0c")),
    *(b"\x1b[" + words for words in (b"5n", b"6n", b"?6n", b"?15n", b"?25n", b"?26n", b"?53n")),
    *(b"\x1b[" + words for words in (b"?55n", b"?56n", b"?62n", b"?63;1n", b"?75n", b"?996n")),
    *(b"\x1b[" + words for words in (b"4$p", b"?25$p", b"?2026$p", b"x", b"0x", b"1x")),
    *(b"\x1b[" + words for words in (b">q", b">0q", b"?u", b"?1;1;0S", b"?4m", b"?1g")),
    *(b"\x1b[%dt" % number for number in range(11, 22)),
    *(b"\x1b[" + words for words in (b"14;2t", b"13;2t", b"1;18t", b"8;24;80;18t", b"22;0;18t")),
    *(b"\x1b[" + words for words in (b"1;1;1;1;24;80*y", b"&u", b"1$u", b"2;1$u", b",u")),
    *(b"\x1b[" + words for words in (b"1$w", b"2$w", b"'|", b"1'|", b'"v', b"1;1;2;2'w", b"+x")),
    *(b"\x1b[" + words for words in (b"#S", b"#R", b"1;1;1;1#|")),
    *(b"\x1b[" + words for words in (b"?1004h", b"?2048h")),
    *(b"\x1bP" + words + ST for words in (b"$qm", b'$q"p', b"$q q", b"+q544e;5447", b"+Qfont")),
    *(b"\x1bP" + words + ST for words in (b'@kitty-cmd{"cmd":"ls"}', b"1000p")),
    *(b"\x1b]%d;?\x07" % number for number in [*range(10, 20), 39, 49, 50, 701, 708, 7770]),
    *(b"\x1b]%d;?" % number + ST for number in range(10, 20)),
    *(b"\x1b]" + words + b"\x07" for words in (b"4;1;?", b"5;0;?", b"4;1;red;2;?", b"10;?;?")),
    *(b"\x1b]" + words + b"\x07" for words in (b"52;c;?", b"52;;?", b"21;foreground=?", b"60")),
    *(b"\x1b]" + words + b"\x07" for words in (b"61;mouse", b"22;?__current__", b"99;i=1:p=?;")),
    *(b"\x1b]" + words + ST for words in (b"1337;ReportCellSize", b"5522;type=read;", b"5113;ac")),
    *(b"\x1b_" + words + ST for words in (b"Ga=q,i=31,s=1;AAAA", b"Gi=31,a=T,f=100;AAAA")),
    *(b"\x1b_" + words + ST for words in (b"Ga=T,I=13;AAAA", b"Gi=3,q=1;AA")),
]

# What is like them and asks for nothing.
OTHERS = [
    *(
        b"\x1b[" + words
        for words in (b"m", b"1;31m", b"38;2;1;2;3m", b"H", b"999;999H", b"2J", b"K")
    ),
    *(b"\x1b[" + words for words in (b"?1c", b"?0;0c", b">4;2m", b">4n", b"!p", b'61"p', b"#p")),
    *(b"\x1b[" + words for words in (b"2 q", b'1"q', b"0q", b"2S", b"1;2*x", b"3;1;1;2;2$x")),
    *(
        b"\x1b[" + words
        for words in (b"u", b">1u", b"<u", b"=1;1u", b"s", b"g", b"3g", b"4h", b"4l")
    ),
    *(b"\x1b[" + words for words in (b"22;0;0t", b"23;2t", b"8;18;80t", b"3;11;14t", b"4;21;20t")),
    *(b"\x1b[" + words for words in (b"24t", b"9;1t", b"10;2t", b">2t", b"1t", b"8;11t", b"2 t")),
    *(
        b"\x1b[" + words
        for words in (b"?1000h", b"?1006h", b"?2004h", b"?1049h", b"?25l", b"?1004l")
    ),
    *(b"\x1b[" + words for words in (b"1;2'z", b"1'{", b"2'}", b"1*|", b"80$|", b"4;1y", b"1#y")),
    *(
        b"\x1b" + words
        for words in (b"7", b"8", b"c", b"=", b"(B", b"#8", b" F", b"%G", b"M", b"\\")
    ),
    *(b"\x1b]" + words + b"\x07" for words in (b"0;who? me;?", b"2;?", b"8;;http://a/?;?", b"7;?")),
    *(
        b"\x1b]" + words + ST
        for words in (b"10;#ffffff", b"4;1;red", b"52;c;aGk=", b"104", b"0;\xc5\x9c")
    ),
    *(
        b"\x1b]" + words + ST
        for words in (b"133;A;?", b"777;notify;why;?", b"1337;SetMark", b"9;?")
    ),
    *(b"\x1bP" + words + ST for words in (b"1$r0m", b"0;1;0q#0;2;0;0;0~-", b"2$t1/1", b"tmux;hi")),
    *(
        b"\x1b_" + words + ST
        for words in (b"Ga=T,f=100;AAAA", b"Ga=d", b"Gi=3,q=2,a=T;AAAA", b"Xa=q")
    ),
    b"\x1bkname" + ST,
    b"\x9b31m",
    b"\x9d0;title\x9c",
    b"\xc2\x9bH",
]

TEXT = st.text(
    st.characters(exclude_characters="\x05\x18\x1a\x1b", exclude_categories=("Cs", "Cc"))
    | st.sampled_from("\r\n\t\b\x07\0?;:[]cnZ6⚛œ\u0441\u0448\U0001f41b")
).map(str.encode)


def without_7_bits(question: bytes, encoding: str) -> bytes:
    """The same with C1 controls, as bytes or as characters of UTF-8."""
    words = question.replace(ST, b"\x1b\\" if encoding == "7 bits" else "\x9c".encode(encoding))
    introducer = re.match(rb"\x1b([\[\]PZ_])", words)
    if not introducer or encoding == "7 bits":
        return question
    return chr(introducer[1][0] + 0x40).encode(encoding) + words[2:]


# A terminal, as far as needed to see what it is asked.


def asked(data: bytes, kind: str) -> list[bytes]:
    """What a terminal of some kind would answer, by a parser of its own.

    A "tmux" knows controls of seven bits, overlooks other bytes in a sequence, and takes a string
    that is cut short as complete. A terminal of "8 bits" ends whatever it is in at a C1 control,
    and one of "utf-8" at a C1 control that is a character. Both end a sequence at other rubbish.
    """
    return [words for words in _sequences(data, kind) if _asks(words)]


def _sequences(data: bytes, kind: str) -> Iterator[bytes]:
    """Sequences and strings with an introducer of seven bits, without the controls in them."""
    words = b""
    for unit in _units(data, kind):
        string = (
            words[:2] if words[:2] in (b"\x1b]", b"\x1bP", b"\x1b_", b"\x1bX", b"\x1b^") else b""
        )
        if unit == b"\x05":
            yield unit
        elif unit in (b"\x18", b"\x1a", b"\x1b", b"\x9c") or (unit, string) == (b"\x07", b"\x1b]"):
            yield words if string else b""
            words = unit if unit == b"\x1b" else b""
        elif string:
            words += unit if string == b"\x1b_" or (unit >= b" " and unit != b"\x7f") else b""
        elif unit == b"\x80":
            words = b""
        elif words and b" " <= unit < b"\x7f":
            words += unit
            if words[1:] in (b"[", b"]", b"P", b"_", b"X", b"^"):
                continue
            if unit >= (b"@" if words.startswith(b"\x1b[") else b"0"):
                yield words
                words = b""


def _units(data: bytes, kind: str) -> Iterator[bytes]:
    """Bytes, or characters of several, with C1 controls as the two bytes for which they stand."""
    for character in data.decode("latin-1" if kind == "tmux" else "utf-8", "surrogateescape"):
        code, c1 = ord(character), 0
        encoded = character.encode("utf-8", "surrogateescape")
        if 0xDC80 <= code < 0xDCA0 and kind == "8 bits":
            c1 = code - 0xDC40
        elif 0x80 <= code < 0xA0 and kind != "tmux":
            c1 = code - 0x40
        elif (code >= 0xDC80 and kind == "utf-8") or (
            kind != "tmux" and any(0x80 <= byte < 0xA0 for byte in encoded)
        ):
            yield b"\x80"
        else:
            yield encoded
        if c1:
            yield from (b"\x9c",) if c1 == ord("\\") else (b"\x1b", bytes([c1]))


def _asks(words: bytes) -> bool:
    """Whether the sequences that most terminals answer are asked, without those of few."""
    return bool(
        words in (b"\x05", b"\x1bZ")
        or re.fullmatch(
            rb"\x1b\[(?:[>=]?[\d;:]*c|\??[\d;:]*n|\??[\d;:]*\$p|>[\d;:]*q|[\d;:]*x)", words
        )
        or re.fullmatch(rb"\x1b\[0*(?:1[1-9]|2[01])(?:;[\d;:]*)?t|\x1b\[\?[\d;:]*[uS]", words)
        or re.fullmatch(rb"\x1b\](?:4;\d+|5;\d+|1\d|52;[a-z]*);\?", words, re.DOTALL)
        or re.match(rb"\x1bP[$+]q", words)
        or re.match(rb"\x1b_Ga=q", words)
    )


KINDS = ["tmux", "8 bits", "utf-8"]


# What is left out, and what is not.


@pytest.mark.parametrize("encoding", ["7 bits", "latin-1", "utf-8"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_left_out(question: bytes, encoding: str) -> None:
    question = without_7_bits(question, encoding)
    assert without_questions(question) == b""
    assert without_questions(b"login: " + question * 3 + b"$ 6n") == b"login: $ 6n"
    around = "Größe ⚛œ".encode()
    assert without_questions(around + question + around) == around * 2


@pytest.mark.parametrize("other", OTHERS)
def test_each_other_sequence_stays(other: bytes) -> None:
    for data in (other, b"a" + other + b"b", other * 3, b"\r\n" + other + b"\x07 6n c ;?"):
        assert without_questions(data) == data


@given(st.lists(TEXT | st.sampled_from(QUESTIONS) | st.sampled_from(OTHERS), max_size=20))
def test_all_but_questions_stays_byte_for_byte(pieces: list[bytes]) -> None:
    rest = [piece for piece in pieces if piece not in QUESTIONS]
    assert without_questions(b"".join(pieces)) == b"".join(rest)


@given(TEXT, st.sampled_from(QUESTIONS), st.integers(1))
def test_what_the_device_is_about_to_ask_stays(before: bytes, question: bytes, cut: int) -> None:
    """A replay may end in the middle of a sequence: what comes next completes it."""
    begun = question[: cut % len(question)]
    if not begun.endswith(ST[:1]) or len(begun) == 1:  # an ESC ends a string for some terminals
        assert without_questions(before + begun) == before + begun


@given(st.sampled_from(QUESTIONS), st.integers(1), TEXT)
def test_a_replay_may_begin_in_the_middle_of_a_question(
    question: bytes, cut: int, after: bytes
) -> None:
    rest = question[1 + cut % len(question) :]
    assert without_questions(rest + after) == rest + after


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        # C0 controls are obeyed within a sequence, ENQ among them.
        (b"\x1b[6\r\nn.", b"\r\n."),
        (b"\x1b[3\x051mred", b"\x1b[31mred"),
        (b"\x1b\x05[6n", b""),
        (b"\x1b\nZ", b"\n"),
        (b"\x1b\x00]10;?\x07", b""),
        # CAN, SUB and ESC end it.
        (b"\x1b[6\x18n", b"\x1b[6\x18n"),
        (b"\x1b[6\x1an", b"\x1b[6\x1an"),
        (b"\x1b[6\x1b[mn", b"\x1b[6\x1b[mn"),
        # tmux overlooks what is not ASCII, and takes a string that is cut short as complete.
        (b"\x1b[6\xc3\xa4n", b""),
        (b"\x1b\xe9[6n", b""),
        (b"\x1b]10;?\x18x", b"\x18x"),
        (b"\x1b]10;?\x1b[31mx", b"\x1b[31mx"),
        (b"\x1b]1\n0;\n?\x07", b""),
        # Without the question that cuts it short, a sequence would go on: it is cancelled.
        (b"\x1b[\x1b[c6n", b"\x1b[\x186n"),
        (b"\x1b[\x1b[\x1b[c6n", b"\x1b[\x1b[\x186n"),
        (b"\x1b\x1b[6n[6n", b"\x1b\x18[6n"),
        (b"\x1b]10;\x1b[c?\x07", b"\x1b]10;\x18?\x07"),
        (b"\x1bP\x1b[c$qm" + ST, b"\x1bP\x18$qm" + ST),
        (b"\x1b]0;title\x07\x1b[6n", b"\x1b]0;title\x07"),
        (b"\x1b]R text \x1b[6nlogin", b"\x1b]R text \x18login"),
        (b"\x9b\x1b[c6n", b"\x9b\x186n"),
        # Through tmux and screen to the terminal around them.
        (b"\x1bPtmux;\x1b\x1b]11;?\x07" + ST, b"\x1bPtmux;\x1b\x18" + ST),
        (b"\x1bP\x1b[6n" + ST, b"\x1bP\x18" + ST),
        # In a character of UTF-8 there is no C1 control; elsewhere it is one.
        ("⚛6n".encode(), "⚛6n".encode()),
        ("\u041b6n \u035bc".encode(), "\u041b6n \u035bc".encode()),
        ("\U0001f41b6n".encode(), "\U0001f41b6n".encode()),
        (b"\xe4\x9b6n", b"\xe4"),
        (b"\xe2\x9a\x9b\x9b6n", b"\xe2\x9a\x9b"),
        (b"\xf0\xaf\x9b6n", b"\xf0\xaf"),
        (b"\x9b6n", b""),
        # Of several modes only those that are answered at once.
        (b"\x1b[?1000;1004;1006h", b"\x1b[?1000;1006h"),
        (b"\x1b[?1004;2048h", b""),
    ],
)
def test_what_is_shown(data: bytes, shown: bytes) -> None:
    assert without_questions(data) == shown


PIECES = st.sampled_from(
    [b"\x1b", b"[", b"]", b"P", b"_", b"\\", b"\x9b", b"\x9d", b"\x90", b"\x9c", b"\xc2", b"\xe2"]
    + [
        b"6",
        b"n",
        b"c",
        b"Z",
        b"?",
        b";",
        b"10",
        b"$q",
        b"+",
        b"x",
        b"18",
        b"t",
        b"Ga=q",
        b">",
        b"=",
    ]
    + [
        b"\x05",
        b"\x07",
        b"\x18",
        b"\n",
        b"\x7f",
        b"\x9a",
        b"\xe9",
        b"m",
        b"4;1",
        b"1004",
        b"h",
        b"u",
    ]
)


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(PIECES | st.binary(max_size=2), max_size=30).map(b"".join))
@example(b"\x1b]4;1;?\x1b")
def test_no_terminal_is_asked_whatever_came(kind: str, data: bytes) -> None:
    shown = without_questions(data)
    assert asked(shown, kind) == []
    assert without_questions(shown) == shown


def test_the_terminals_of_this_test_are_asked_without_the_filter() -> None:
    for kind in KINDS:
        assert asked(b"\x1b[6n\x1b]10;?\x07\x05\x1bZ\x1bP$qm" + ST, kind) != []
    assert asked(b"\x9b6n", "8 bits") == asked("\x9b6n".encode(), "utf-8") == [b"\x1b[6n"]
    assert asked(b"\x9b6n", "utf-8") == asked(b"\x9b6n", "tmux") == []


HOSTILE = [
    *(
        b"\x1b",
        b"\x1b[",
        b"\x9b",
        b"\x9d",
        b"\x9d4;",
        b"\xc2\x9d",
        b"\xc2\x9b",
        b"\x1b]",
        b"\x1bP",
        b"?",
    ),
    *(
        b"\x1b]4;1",
        b"\x1b[6n",
        b"\x1b[c\x1b[",
        b"\x1b[1;",
        b"1;",
        b"\x1b[1t",
        b"\x1b[?1h",
        b"\x1bZa",
        b";",
    ),
    *(
        b"\x1b_Gi,",
        b"a,",
        b"\x9a",
        b"\xe9",
        b"\x05",
        b"\x1b[11;",
        b"=",
        b"\x1b]21;a=",
        b"\x1b]99;p",
        b"\0",
    ),
]


@pytest.mark.parametrize("begin", [b"", b"\x1b[", b"\x1b]4;", b"\x1bP$q", b"\x1b_Ga=", b"\x9d4;"])
def test_what_wants_to_take_long_is_done_in_one_pass(begin: bytes) -> None:
    for unit in HOSTILE:
        once = without_questions((begin + unit * 1000)[:65536])
        assert without_questions(once) == once


# In a port.


@pytest.mark.parametrize("protocol", ["raw", "telnet", "rfc2217"])
async def test_a_newcomer_is_asked_only_what_is_asked_now(
    protocol: str, adapter: Adapter, make_port: MakePort, serve: Serve
) -> None:
    port = make_port(protocol=protocol, replay=64)
    bench = await serve(port)
    await adapter.send(b"size? \x1b[6n\x05 login: ")
    await bench.has_read(19)
    client = Rfc2217Client(await bench.connect(port))
    if protocol == "raw":
        assert await client.tcp.receive(14) == b"size?  login: "
    else:
        assert await client.receive(14) == b"size?  login: "
    await adapter.send(b"\x1b[6n")
    assert await client.receive(4) == b"\x1b[6n"
