"""Who asks: the kernel says which user it is, NSS says its name and groups at this moment."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import ipaddress
import os
import pwd
import re
from typing import Any

from ttybridge.model.people import Person
from ttybridge.net.threads import in_thread

# How long NSS may take, in seconds: a directory server that is away must not hold up an asker
# longer than it waits.
LOOKUP_SECONDS = 4.0


async def person_of(uid: int, told: dict[str, Any]) -> Person:
    """Return who has a user id; `told` is what its program says of it.

    Raises `OSError` if NSS does not answer. Of root nothing is looked up.
    """
    if uid == 0:
        return Person("root", [], True, _word(told.get("sudo_user")), *_way(told))
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            name, groups = await in_thread(lambda: look_up(uid))
    except TimeoutError:
        raise OSError(f"NSS has not answered within {LOOKUP_SECONDS:g} s") from None
    return Person(name, groups, uid == os.geteuid(), "", *_way(told))


def look_up(uid: int) -> tuple[str, list[str]]:
    """Return the name of a user and the names of its groups, as NSS says now."""
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return f"uid {uid}", []
    groups = []
    for gid in os.getgrouplist(account.pw_name, account.pw_gid):
        with contextlib.suppress(KeyError):  # a group without a name
            groups.append(grp.getgrgid(gid).gr_name)
    return account.pw_name, groups


def _way(told: dict[str, Any]) -> tuple[str, str]:
    """Return how somebody has come and from where, if what is told makes sense."""
    by = told.get("by")
    if not (isinstance(by, str) and re.fullmatch("[a-z]{1,16}", by)):
        return "", ""
    try:
        return by, str(ipaddress.ip_address(str(told.get("address")).partition("%")[0]))
    except ValueError:
        return by, ""


def _word(told: object) -> str:
    """Return a name that was told, "" if it is none."""
    return told if isinstance(told, str) and re.fullmatch(r"[\w.@+-]{1,64}", told) else ""
