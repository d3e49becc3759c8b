"""The accounts of `serial_users`: what may be written of them, and what differs on a host.

An account gets serial consoles by SSH and nothing else. Either ttyfleet makes it, and marks it in
its comment field (passwd(5)), or it exists already and is only limited.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttybridge.model.values import (
    BadKeys,
    Choice,
    Kind,
    NotAllowed,
    Switch,
    Table,
    Text,
    parse_table,
    schema_of_keys,
    setting,
    shown,
    twice,
)
from ttybridge.setup.plan import cuts

_NAME = "[A-Za-z_][A-Za-z0-9_.-]{0,31}(?:@[A-Za-z0-9.-]{1,64})?"
_KINDS_OF_KEY = (
    "ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|"
    r"sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com"
)


@dataclass(frozen=True)
class PublicKey:
    """A public key, as a file such as id_ed25519.pub has it; without options."""

    allowed: str = "a public key as in id_ed25519.pub, such as ssh-ed25519 AAAAC3Nza... jane@laptop"

    @property
    def schema(self) -> dict[str, Any]:
        return self._text.schema

    @property
    def _text(self) -> Text:
        return Text(self.allowed, rf"(?:{_KINDS_OF_KEY}) [A-Za-z0-9+/]{{40,}}={{0,2}}(?: [ -~]*)?")

    def parse(self, value: object) -> str:
        text = self._text.parse(value.strip() if isinstance(value, str) else value)
        kind, blob = text.split()[:2]
        if not _is_whole(kind, blob):
            raise ValueError("a part of the key is missing: copy the whole line of its .pub file")
        return text


def _is_whole(kind: str, blob: str) -> bool:
    """Whether a key is its kind and further fields, each after its length (RFC 4253, 6.6)."""
    try:
        data = base64.b64decode(blob, validate=True)
    except ValueError:
        return False
    fields, at = [], 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        fields.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return at == len(data) and fields[0] == kind.encode() and len(fields) > 1


@dataclass(frozen=True)
class ListOf:
    """A list of values of one kind, each once."""

    kind: Kind
    allowed: str

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.kind.schema, "uniqueItems": True}

    def parse(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise NotAllowed(self)
        items: list[str] = []
        bad: list[tuple[str, str]] = []
        for number, written in enumerate(value, start=1):
            try:
                items.append(self.kind.parse(written))
            except ValueError as error:
                bad.append((f"[{number}]", f"{shown(written)}: {error}"))
        if bad:
            raise BadKeys(bad)
        if item := twice(items):
            raise ValueError(f"{shown(item)} is there twice: write it once")
        return tuple(items)


KEYS = ListOf(PublicKey(), "a list of public keys, each as in id_ed25519.pub")
_GROUPS = ListOf(
    Text("a group such as netops", "[A-Za-z_][A-Za-z0-9_.-]{0,31}"),
    "a list of groups, such as [netops]",
)
_PRINCIPALS = ListOf(
    Text("a principal such as jane", "[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}"),
    "a list of principals of certificates, such as [jane]",
)


@dataclass(frozen=True)
class Account:
    """One entry of `serial_users`."""

    name: str = setting(
        Text("the name of an account, such as tech1", _NAME), "its name", touches="live"
    )
    keys: tuple[str, ...] = setting(
        KEYS, "public keys that it logs in with", touches="live", default=()
    )
    principals: tuple[str, ...] = setting(
        _PRINCIPALS,
        "principals of certificates that it logs in with, signed by a key of serial_users_ca",
        touches="live",
        default=(),
    )
    groups: tuple[str, ...] = setting(
        _GROUPS, "its groups, which users of a port names as @group", touches="live", default=()
    )
    existing: bool = setting(
        Switch(),
        "whether the host, or a directory, has the account already: then it is only limited",
        touches="live",
        default=False,
    )
    state: str = setting(
        Choice(("present", "absent")),
        "absent: it is removed, or if it exists already, shut out of SSH",
        touches="live",
        default="present",
    )


_EXAMPLE = '[{name: tech1, keys: ["ssh-ed25519 AAAA..."], groups: [netops]}]'
_HINTS = {
    "user": "did you mean name?",
    "key": "did you mean keys?",
    "authorized_keys": "did you mean keys?",
    "group": "did you mean groups?",
    "password": "nobody logs in with a password: write keys or principals",
}


@dataclass(frozen=True)
class Accounts:
    """A list of accounts, each with a name of its own."""

    allowed: str = f"a list of accounts, such as {_EXAMPLE}"

    @property
    def schema(self) -> dict[str, Any]:
        one = {**schema_of_keys(Account), "required": ["name"]}
        return {"type": "array", "items": one}

    def parse(self, value: object) -> tuple[Account, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise NotAllowed(self)
        accounts: list[Account] = []
        bad: list[tuple[str, str]] = []
        for number, item in enumerate(value, start=1):
            try:
                account = self._one(item)
                if account.name in [other.name for other in accounts]:
                    raise BadKeys([("name", f"{account.name} is there twice: write it once")])
                accounts.append(account)
            except BadKeys as inside:
                bad += [(f"[{number}].{key}", problem) for key, problem in inside.bad]
            except ValueError as error:
                bad.append((f"[{number}]", f"{shown(item)}: {error}"))
        if bad:
            raise BadKeys(bad)
        return tuple(accounts)

    def _one(self, item: object) -> Account:
        if not isinstance(item, Mapping):
            raise NotAllowed(Table(Account, "{name: tech1}"))
        account = Account(**parse_table(item, Account, _HINTS))
        if account.existing and account.groups:
            raise BadKeys([("groups", "an existing account keeps its groups: write none")])
        makes = account.state == "present" and not account.existing
        if makes and not account.keys and not account.principals:
            problem = "missing: write keys or principals: without them nobody logs in as it"
            raise BadKeys([("keys", problem)])
        return account


def problems(
    accounts: Sequence[Account], authorities: Sequence[str], logins: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return (key, problem) of what only other variables show to be wrong.

    `authorities` is serial_users_ca. `logins` are accounts that must stay as they are, each with
    why.
    """
    found = []
    for number, account in enumerate(accounts, start=1):
        place = f"serial_users[{number}]"
        if account.name in logins:
            found.append((f"{place}.name", _spared(account.name, logins[account.name])))
        if account.principals and not authorities:
            problem = "they need the key that signs the certificates: write it in serial_users_ca"
            found.append((f"{place}.principals", f"{shown(list(account.principals))}: {problem}"))
    return found


def _spared(name: str, why: str) -> str:
    return f"{name} {why}, and would lose its shell: write another account"


def as_variables(written: object, authorities: object) -> list[dict[str, Any]]:
    """Return valid `serial_users` as a role takes them: their fields, and `authorized_keys`."""
    signers = KEYS.parse(authorities or [])
    return [
        {
            **{name: list(v) if isinstance(v, tuple) else v for name, v in vars(account).items()},
            "authorized_keys": "".join(f"{line}\n" for line in _lines(account, signers)),
        }
        for account in Accounts().parse(written or [])
    ]


def _lines(account: Account, signers: Sequence[str]) -> list[str]:
    """The lines of an account's file of keys, see sshd(8)."""
    principals = ",".join(account.principals)
    signed = [f'cert-authority,principals="{principals}" {key}' for key in signers]
    return [*account.keys, *(signed if principals else [])]


def plan(users: Sequence[Mapping[str, Any]], read: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs in the accounts of a host.

    `users` are as `as_variables` returns them, `read` is the output of files/read_host.sh. The
    result has `changes`, a line of the plan each; `faults`; `pending`; and for the role `groups` to
    make, accounts to `make` or change, those to `remove`, and those whose sessions are to `end`.
    """
    people = read["people"]
    found = {one["name"]: one for one in people["accounts"]}
    made = [name for name, one in found.items() if one["made"]]
    here = [user for user in users if user["state"] == "present"]
    own = {user["name"]: user for user in here if not user["existing"]}
    make = [user for name, user in own.items() if _groups(found.get(name)) != {*user["groups"]}]
    remove = [name for name in made if name not in own]
    limited = {user["name"] for user in here if user["existing"]}
    shut_out = {user["name"] for user in users if user["existing"]} - limited
    begin = sorted((limited - {*people["limited"]}) | (shut_out - {*people["denied"]}))
    were = {*people["limited"], *people["denied"]} - {*made}
    free = sorted(were - {user["name"] for user in users})
    end = [*remove, *(user["name"] for user in make if _loses(user, found)), *begin, *free]
    lines = [_line(user, found) for user in make]
    lines += [f"- user {name}" for name in remove]
    lines += [
        f"~ user {name} ({'gets consoles only' if name in limited else 'is shut out of SSH'})"
        for name in begin
    ]
    lines += [f"~ user {name} (logs in as before ttyfleet)" for name in free]
    lines += [f"! disconnects {text}" for text in cuts.of_people(end, read)]
    return {
        "changes": lines,
        "faults": _faults(users, found, people),
        "pending": _pending(here, read),
        "groups": sorted({group for user in make for group in user["groups"]}),
        "make": [{"name": user["name"], "groups": [*user["groups"]]} for user in make],
        "remove": remove,
        "end": end,
    }


def _groups(account: Mapping[str, Any] | None) -> set[str] | None:
    """The groups of an account, without its first one; None where there is no account."""
    return {*account["groups"]} - {account["group"]} if account else None


def _loses(user: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether an account leaves a group."""
    return bool((_groups(found.get(user["name"])) or set()) - {*user["groups"]})


def _line(user: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    now = ", ".join(user["groups"]) or "no group"
    before = _groups(found.get(user["name"]))
    if before is None:
        return f"+ user {user['name']} ({now})"
    return f"~ user {user['name']} ({', '.join(sorted(before)) or 'no group'} -> {now})"


def _faults(
    users: Sequence[Mapping[str, Any]], found: Mapping[str, Any], people: Mapping[str, Any]
) -> list[str]:
    faults = []
    for user in users:
        name, account = user["name"], found.get(user["name"])
        problem = ""
        if name == people["login"]:
            problem = _spared(name, "is who Ansible logs in as").removeprefix(f"{name} ")
        elif user["existing"] and not account:
            problem = "the host has no such account: make it, or delete existing"
        elif user["existing"] and account and account["made"]:
            problem = "ttyfleet has made this account: delete existing"
        elif account and not user["existing"] and not account["made"]:
            problem = (
                "the host has this account already, and ttyfleet has not made it: write existing: "
                "on to limit it to consoles, or another name"
            )
        elif account and account["overridden"]:
            problem = (
                f"another file of /etc/ssh takes the place of {', '.join(account['overridden'])} "
                "in 00-ttyfleet.conf: remove what it says of this account"
            )
        faults += [f"serial_users: {name}: {problem}"] if problem else []
    return faults


def _pending(here: Sequence[Mapping[str, Any]], read: Mapping[str, Any]) -> list[str]:
    services = (read["services"].get(name, {}) for name in ("ssh.service", "ssh.socket"))
    runs = any(service.get("ActiveState") == "active" for service in services)
    if runs or not here:
        return []
    return [
        "SSH is off, so no account of serial_users can log in; run sudo systemctl enable --now ssh"
    ]
