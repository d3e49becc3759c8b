"""Removes from a replay what asks a terminal to answer: bytes in, bytes out.

A terminal that shows `ESC [ 6 n` types the position of its cursor, as if its user had typed it. In
a replay the question is old: the program that asked has its answer or has ended, and a new answer
would be typed into whatever runs now. So the questions are left out. They are those of xterm's
"Control Sequences", and the others that tmux, screen, VTE, PuTTY, kitty, iTerm2, rxvt and Windows
Terminal answer.

All other bytes stay as they are. A mode that reports what a user does later, such as the mouse,
stays: a program on the device may wait for it. A mode that is answered at once is left out.

The beginning of a sequence at the end of the replay stays: what the device says next completes it,
and that question is new.
"""

from __future__ import annotations

import re
from functools import cache

# ENQ alone is a question, and terminals obey it even within a sequence. All ENQs are removed first;
# then the byte is free to mark where a question was.
_MARK = b"\x05"
_CANCEL = b"\x18"

# Controls that a terminal obeys or ignores within a sequence. CAN, SUB and ESC end it.
_CONTROLS = rb"\x00-\x04\x06-\x17\x19\x1c-\x1f\x7f"
# tmux also ignores all bytes above ASCII. On a terminal with 8-bit controls (C1), those end a
# sequence.
_NOISE = _CONTROLS + rb"\x80-\xff"
_NOISE_8_BIT = _CONTROLS + rb"\xa0-\xff"
# In an OSC, which BEL ends.
_OSC_NOISE = rb"\x00-\x04\x06\x08-\x17\x19\x1c-\x1f\x7f"

# The byte before is a C1 control, not a part of a UTF-8 character.
_BARE = rb"""
    (?<![\xc2-\xdf].)
    (?! (?<=[\xe1-\xef].) [\x80-\xbf] )
    (?<!\xe0[\xa0-\xbf].) (?<!\xed[\x80-\x9f].) (?<![\xe1-\xec\xee\xef][\x80-\xbf].)
    (?! (?<=[\xf0-\xf3].) [\x80-\xbf]{2} )
    (?! (?<=[\xf0-\xf4][\x80-\xbf].) [\x80-\xbf] )
    (?<![\xf0-\xf4][\x80-\xbf]{2}.)
"""

# What ends a string. What interrupts it ends it, too: tmux treats the string as complete.
_END = rb"(?: \x07 | \x1b\\ | \xc2?\x9c | (?=[\x18\x1a\x1b\x80-\x9f\xc2]) )"


def _text(but: bytes) -> bytes:
    """Match the bytes of a string up to its end, or up to one of the bytes `but`."""
    plain = rb"[^%s\x05\x18\x1a\x1b\x80-\x9f\xc2]++" % but
    return rb"(?: %s | \xc2(?![\x80-\x9f]) | [\x80-\x9f](?!%s) )*+" % (plain, _BARE)


def _after_csi(noise: bytes) -> bytes:
    """Match what follows CSI in a question, whatever its parameters are."""
    skip = rb"[%s]*+" % noise if noise else b""
    words = rb"""skip (?:
        \? parameters (?: [gmnSu] | \$ skip p )
      | >  parameters [cq]
      | =  parameters c
      | parameters (?:
            [cnx] | \$ skip [puw] | [&,] skip u | \* skip y | " skip v | \+ skip x
          | ' skip [|w] | \# skip [|RS]
        )
    )"""
    return words.replace(b"parameters", rb"[\d:;%s]*+" % noise).replace(b"skip", skip)


def _judged_after_csi(noise: bytes) -> bytes:
    """Match the same with noise in it, and likely questions: `_judge` decides by parameters."""
    return (
        _after_csi(noise)
        + rb"""
        | skip (?= some (?: 1 skip [1-9] | 2 skip [01] ) ) parameters t
        | skip (?= \? some (?: 1 skip 0 skip 0 skip 4 | 2 skip 0 skip 4 skip 8 ) ) \? parameters h
    """.replace(b"parameters", rb"[\d:;%s]*+" % noise)
        .replace(b"some", rb"[\d:;%s]*?" % noise)
        .replace(b"skip", rb"[%s]*+" % noise)
    )


# In this order: kitty's colours and notifications; the features that xterm allows; kitty's files
# and clipboard, where writes are answered, too; some of iTerm2; last, all that ask with `?`, except
# texts (titles, links, notifications, shell marks), where a question mark is only that.
_OSC = rb"""(?:
        21; %(no_equals)s (?: =(?!\?) %(no_equals)s )*+ =\?
      | 99; (?: (?!p=\?) [^;\x05\x07\x18\x1a\x1b\x80-\xff] )*+ p=\?
      | (?: 60 | 61 | 5113 | 5522 ) (?!\d)
      | 1337; (?: Report | Request | Capabilities )
      | (?! (?: [0-37-9] | 30 | 66 | 99 | 133 | 633 | 777 | 1337 | 3008 ); )
        [\d%(noise)s]++ (?: ; (?![%(noise)s]*+ \?) %(no_semicolon)s )*+ ; [%(noise)s]*+ \?
    ) %(text)s""" % {
    b"noise": _OSC_NOISE,
    b"no_equals": _text(rb"\x07="),
    b"no_semicolon": _text(rb"\x07;"),
    b"text": _text(rb"\x07"),
}

# DECRQSS, XTGETTCAP, XTGETXRES; kitty's remote control, tmux -CC.
_DCS = rb"(?: [\d:;%s]*+ [$+] [%s]*+ [qQ] | @kitty- | 1000p ) %s" % (
    _CONTROLS,
    _CONTROLS,
    _text(b""),
)

# kitty answers commands for an image that has a number, unless q=2 tells it not to.
_KEYS = rb"(?: [^,;\x05\x18\x1a\x1b\x80-\xff]*+ , )*?"
_APC = rb"G (?! %s q=2 [,;\x1b] ) %s (?: a=q | [iI]=\d ) %s" % (_KEYS, _KEYS, _text(b""))

_PARTS = {
    b"bare": _BARE,
    b"controls": _CONTROLS,
    b"osc_noise": _OSC_NOISE,
    b"noise": _NOISE,
    b"noise_8_bit": _NOISE_8_BIT,
    b"csi": _after_csi(b""),
    b"judged": _judged_after_csi(_NOISE),
    b"judged_8_bit": _judged_after_csi(_NOISE_8_BIT),
    b"osc": _OSC,
    b"dcs": _DCS,
    b"apc": _APC,
    b"end": _END,
    b"osc_text": _text(rb"\x07"),
    b"text": _text(b""),
}

_QUESTION = (
    rb"""
    [\x1b\x90\x9a\x9b\x9d\x9f\xc2] (?:
        (?<=\x1b) (?:
            \[ %(csi)s
          | Z
          | \] %(osc)s %(end)s
          | P %(dcs)s %(end)s
          | _ %(apc)s %(end)s
          | \[ (?=[\x20-\x3f]*+[ht%(noise)s]) (?P<judged> %(judged)s )
          | [%(noise)s]++ (?:
                \[ (?P<after_noise> %(judged)s )
              | (?P<decid> Z )
              | \] %(osc)s %(end)s
              | P %(dcs)s %(end)s
              | _ %(apc)s %(end)s
            )
        )
      | (?: (?<=\x9b) (?![\x80-\x9f]) %(bare)s | (?<=\xc2) \x9b ) (?:
            %(csi)s
          | (?=[\x20-\x3f]*+[ht%(noise_8_bit)s]) (?P<judged_8_bit> %(judged_8_bit)s )
        )
      | (?: (?<=\x9a) %(bare)s | (?<=\xc2) \x9a )
      | (?: (?<=\x9d) (?=[\d%(osc_noise)s]) %(bare)s | (?<=\xc2) \x9d ) %(osc)s %(end)s
      | (?: (?<=\x90) (?=[\d:;$+@%(controls)s]) %(bare)s | (?<=\xc2) \x90 ) %(dcs)s %(end)s
      | (?: (?<=\x9f) (?=G) %(bare)s | (?<=\xc2) \x9f ) %(apc)s %(end)s
    )
    """
    % _PARTS
)

# Window operations that report: 11 to 21. xterm carries out the first operation, tmux all of them;
# some operations have arguments.
_REPORTS_WINDOW = re.compile(
    rb"(?: 0*(?:[12567]|24); | 0*[348];\d*;\d*; | 0*(?:9|10|22|23);\d*; )*+"
    rb"0*(?: 1[1-9] | 2[01] ) (?: [;:].* )? t",
    re.VERBOSE,
)

# A terminal that is asked to report changes of focus or window size reports both at once.
_ANSWERED_MODES = (b"1004", b"2048")

# A sequence that a question has interrupted.
_CUT_SHORT = (
    rb"""
    (?:
        \x1b [%(noise)s]*+ (?:
            \[ [\x20-\x3f%(noise)s]*+
          | \] %(osc_text)s
          | [PX^_k] %(text)s
          | [\x20-\x2f%(noise)s]*+
        )
      | (?: \xc2\x9b | \x9b %(bare)s ) [\x20-\x3f%(noise_8_bit)s]*+
      | (?: \xc2\x9d | \x9d %(bare)s ) %(osc_text)s
      | (?: \xc2[\x90\x98\x9e\x9f] | [\x90\x98\x9e\x9f] %(bare)s ) %(text)s
    ) (?=\x05)
    """
    % _PARTS
)

_BYTES = [bytes([each]) for each in range(256)]
_NO_CONTROLS = b"".join(each for each in _BYTES if not re.match(rb"[%s]" % _CONTROLS, each))
_ALL_NOISE = b"".join(each for each in _BYTES if re.match(rb"[%s]" % _NOISE, each))


def without_questions(data: bytes) -> bytes:
    """Return what a device said, without what asks a terminal to answer."""
    if not data:
        return data
    marked = _compiled(_QUESTION).sub(_judge, data.replace(_MARK, b""))
    if _MARK not in marked:
        return marked
    # Without the question the interrupted sequence would go on, and might become a question itself.
    cancelled = _compiled(_CUT_SHORT).sub(lambda match: match[0] + _CANCEL, marked)
    return cancelled.replace(_MARK, b"")


@cache
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern when it is first needed: most daemons have no port with a replay."""
    return re.compile(pattern, re.VERBOSE | re.DOTALL)


def _judge(match: re.Match[bytes]) -> bytes:
    """Return a mark and the controls within, for a question; any other sequence as it is."""
    if not match.lastgroup:
        return _MARK
    words = match[match.lastgroup].translate(None, _ALL_NOISE)
    if words.endswith(b"t") and not _REPORTS_WINDOW.fullmatch(words):
        return match[0]
    if words.endswith(b"h"):
        modes = words[1:-1].split(b";")
        others = [mode for mode in modes if mode.lstrip(b"0") not in _ANSWERED_MODES]
        if len(others) == len(modes):
            return match[0]
        if others:
            return b"\x1b[?" + b";".join(others) + b"h"
    return _MARK + match[0].translate(None, _NO_CONTROLS)
