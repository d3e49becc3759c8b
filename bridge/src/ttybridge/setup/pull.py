"""`serial_pull`: a host that pulls its own inventory from a git repository and applies it.

What may be written, the files of such a host, and what verify.yml says of its last pull. The
program that pulls is `ttybridge.setup.pulling`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttybridge.model.values import (
    BadKeys,
    Misread,
    NotAllowed,
    Switch,
    Table,
    Text,
    did_you_mean,
    kinds_of,
    parse_table,
    printable,
    schema_of_keys,
    setting,
)
from ttybridge.setup import accounts
from ttybridge.setup.words import count

_TREE = Path(__file__).resolve().parents[4]

FOLDER = "/etc/ttyfleet/pull"
PROGRAM = "/usr/local/lib/ttyfleet/pull"
SERVICE, TIMER = "ttyfleet-pull.service", "ttyfleet-pull.timer"
UNITS = "/etc/systemd/system"

# git without recommends lacks ssh. Debian 13 has an ansible-core that runs our playbooks.
PACKAGES = ["ansible-core", "git", "openssh-client"]
_RELEASE = "13"


@dataclass(frozen=True)
class Secret:
    """Text that no message shows; `pattern` matches all of it but line ends at its end."""

    allowed: str
    pattern: str

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": rf"^(?:{self.pattern})\s*$"}

    def parse(self, value: object) -> str:
        # ansible-core 2.18 has a class of its own for texts that were encrypted.
        is_text = isinstance(value, Sequence) and not isinstance(value, list | tuple | bytes)
        text = str(value).strip() if is_text else ""
        if not re.fullmatch(self.pattern, text):
            raise Misread(f"(not shown): write {self.allowed}")
        return f"{text}\n"


_KEY = Secret(
    "the text of a private key that ssh-keygen made without a passphrase, from ansible-vault",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n[A-Za-z0-9+/=\s]+-----END [A-Z ]*PRIVATE KEY-----",
)
_PASSWORD = Secret("the password of ansible-vault, on one line", r"[^\r\n]+")

# ansible-pull hands it to a shell as it is.
_HOST, _PATH = r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]", "[A-Za-z0-9/._~+-]+"
_REPOSITORY = Text(
    "the URL of a git repository, such as ssh://git@git.example.org/site.git, "
    "git@git.example.org:site.git or https://git.example.org/site.git",
    rf"ssh://(?:[A-Za-z0-9._-]+@)?(?:{_HOST})(?::[0-9]{{1,5}})?/{_PATH}"
    rf"|[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:{_PATH}|https://(?:{_HOST})(?::[0-9]{{1,5}})?/{_PATH}",
)

_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_UNITS_OF_TIME = r"[0-9*][0-9*,./~]*"
_SCHEDULE = Text(
    'times as systemd.time(7) has them, in quotes, such as hourly, "*:0/30" or "Mon..Fri 03:00"',
    "minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly"
    rf"|(?:{_DAY}(?:(?:,|\.\.){_DAY})* )?(?:{_UNITS_OF_TIME}(?:-{_UNITS_OF_TIME}){{1,2}} )?"
    rf"{_UNITS_OF_TIME}:{_UNITS_OF_TIME}(?::{_UNITS_OF_TIME})?(?: [A-Za-z0-9/_+-]+)?",
)


@dataclass(frozen=True)
class Pull:
    """The value of `serial_pull`."""

    repository: str = setting(_REPOSITORY, "the git repository of the inventory", touches="live")
    signers: tuple[str, ...] = setting(
        accounts.KEYS,
        "public keys that sign its commits: any other commit is refused",
        touches="live",
    )
    key: str = setting(
        _KEY, "private key that reads the repository by ssh", touches="live", default=""
    )
    known_hosts: tuple[str, ...] = setting(
        accounts.ListOf(
            Text(
                "a line as ssh-keyscan prints it", r"[^\s#|]\S* [a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}"
            ),
            "a list of the host keys of the git server, each a line as ssh-keyscan prints it",
        ),
        "host keys of the git server",
        touches="live",
        default=(),
    )
    branch: str = setting(
        Text("the name of a branch, such as main", "[A-Za-z0-9][A-Za-z0-9._/-]*"),
        "the branch of the repository",
        touches="live",
        default="main",
    )
    schedule: str = setting(
        _SCHEDULE,
        "when it pulls, as OnCalendar of systemd; up to 15 minutes later, so that a fleet spreads",
        touches="live",
        default="hourly",
    )
    vault_password: str = setting(
        _PASSWORD, "what opens ansible-vault's values on the host", touches="live", default=""
    )

    @property
    def is_ssh(self) -> bool:
        """Whether ssh reads the repository."""
        return not self.repository.startswith("https://")


_HINTS = did_you_mean(
    {
        **dict.fromkeys(("url", "repo", "git"), "repository"),
        **dict.fromkeys(("allowed_signers", "signing_keys", "signer"), "signers"),
        **dict.fromkeys(("interval", "oncalendar", "timer"), "schedule"),
        **dict.fromkeys(("deploy_key", "private_key"), "key"),
        **dict.fromkeys(("host_keys", "known_host"), "known_hosts"),
        **dict.fromkeys(("vault", "password", "vault_password_file"), "vault_password"),
    }
)


@dataclass(frozen=True)
class Pulls:
    """The kind of `serial_pull`."""

    @property
    def allowed(self) -> str:
        return Table(Pull, "{repository: ssh://git@git.example.org/site.git, ...}").allowed

    @property
    def schema(self) -> dict[str, Any]:
        one = {**schema_of_keys(Pull), "required": ["repository", "signers"]}
        # Of one host, where the group's variable has a value.
        return {"anyOf": [one, {"type": "null"}]}

    def parse(self, value: object) -> Pull:
        if not isinstance(value, Mapping):
            raise NotAllowed(self)
        # What a person calls otherwise may be a secret.
        known = kinds_of(Pull)
        written = {name: item if name in known else "..." for name, item in value.items()}
        pull = Pull(**parse_table(written, Pull, _HINTS))
        bad = []
        if not pull.signers:
            bad.append(("signers", f"missing: write {accounts.KEYS.allowed}"))
        if pull.is_ssh and not pull.key:
            bad.append(("key", f"missing: ssh needs it: write {_KEY.allowed}"))
        if pull.is_ssh and not pull.known_hosts:
            words = "a list of what ssh-keyscan prints of the git server"
            bad.append(("known_hosts", f"missing: ssh needs them: write {words}"))
        if bad:
            raise BadKeys(bad)
        return pull


def files(host: str, written: object, reboot: object = False) -> list[dict[str, Any]]:
    """Return the files of a host with a valid `serial_pull`, as `ttybridge.setup.plan.files` has.

    `reboot` is the host's uart_reboot. Each file also has its `content`. Those that are `secret`
    must not be shown, nor become facts: see `without_secrets`.
    """
    pull = Pulls().parse(written)
    config = {
        "host": host,
        **{name: getattr(pull, name) for name in ("repository", "branch", "schedule")},
        "reboot": Switch().parse(reboot),
    }
    signers = "".join(f'* namespaces="git" {key}\n' for key in pull.signers)
    known_hosts = "".join(f"{line}\n" for line in pull.known_hosts)
    secrets = {"key": pull.key, "vault_password": pull.vault_password}
    texts = {"config.json": f"{json.dumps(config, indent=2)}\n", "signers": signers}
    program = (_TREE / "bridge/src/ttybridge/setup/pulling.py").read_text("utf-8")
    unit = (_TREE / "files/ttyfleet-pull.service").read_text("utf-8")
    return [
        *(_file(f"{FOLDER}/{name}", text) for name, text in texts.items()),
        _file(f"{FOLDER}/known_hosts", known_hosts),
        *(
            {**_file(f"{FOLDER}/{name}", text, mode="0600"), "secret": True}
            for name, text in secrets.items()
        ),
        _file(PROGRAM, f"#!/usr/bin/python3 -I\n{program}", mode="0755"),
        _file(f"{UNITS}/{SERVICE}", unit, effect="reload"),
        _file(f"{UNITS}/{TIMER}", _timer(pull.schedule), effect="restart"),
    ]


def _file(path: str, content: str, mode: str = "0644", effect: str = "") -> dict[str, Any]:
    kind = "file" if content else "absent"
    return {"path": path, "kind": kind, "content": content, "mode": mode, "effect": effect}


def _timer(schedule: str) -> str:
    # Imported late, like PyYAML: a Pi needs this package, and neither of them.
    import jinja2

    text = (_TREE / "templates/ttyfleet-pull.timer.j2").read_text("utf-8")
    template = jinja2.Template(text, keep_trailing_newline=True, trim_blocks=True)
    return str(template.render(pull_schedule=schedule))


def without_secrets(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what `files` returns, with checksums in the place of contents that are secret."""
    return [_public(item) if item.get("secret") else dict(item) for item in items]


def _public(item: Mapping[str, Any]) -> dict[str, Any]:
    public = {name: value for name, value in item.items() if name != "content"}
    return {**public, "sha256": hashlib.sha256(item["content"].encode()).hexdigest()}


def first_boot(host: str, variables: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what makes a new host do its first pull, in words of cloud-config.

    `variables` are those of the host. `packages` is empty: the program installs what it needs
    without recommended packages, which cloud-init would add. Raises `ValueError` (`BadKeys`) if
    `serial_pull` is faulty.
    """
    items = [
        one
        for one in files(host, variables["serial_pull"], variables.get("uart_reboot", False))
        if one["kind"] == "file"
    ]
    return {
        "packages": [],
        "write_files": [
            {
                "path": one["path"],
                "content": one["content"],
                "permissions": one["mode"],
                "owner": "root:root",
            }
            for one in items
        ],
        "runcmd": [
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "--now", TIMER],
            # It takes minutes, and tries again by its timer.
            ["systemctl", "start", "--no-block", SERVICE],
        ],
    }


def faults(release: str) -> list[str]:
    """Return why a host of a release of Debian cannot pull."""
    if release == _RELEASE:
        return []
    return [
        f"serial_pull: the host runs Debian {release}, whose ansible-core is too old to run the "
        f"playbooks: upgrade it to {_RELEASE} (trixie), or write serial_pull: null in its host_vars"
    ]


def pending(read: Mapping[str, Any], now: int) -> list[str]:
    """Return what is wrong with the pulls of a host that pulls; nothing before its first one.

    `read` is the output of files/read_host.sh; its `pull` is the state file, in base64. `now` is in
    seconds since 1970.
    """
    unit = read["services"].get(SERVICE, {})
    state = _state(read)
    more = f"sudo journalctl -u {SERVICE} there says more"
    if state.get("result") == "failed":
        reason = printable(str(state.get("reason")))
        return [f"its last pull failed, {_ago(now, state.get('ended'))}: {reason}; {more}"]
    if unit.get("ActiveState") == "failed":
        return [f"its last pull ended before it could say why; {more}"]
    if state and now > _number(state.get("stale_after")):
        return [
            f"its last pull was {_ago(now, state.get('succeeded'))}, and two should have followed; "
            f"see that {TIMER} runs there; {more}"
        ]
    return []


def _state(read: Mapping[str, Any]) -> dict[str, Any]:
    """The state file; a host may have anything there."""
    try:
        state = json.loads(base64.b64decode(read["pull"]))
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _ago(now: int, then: object) -> str:
    minutes = max(0, int(now - _number(then)) // 60)
    if minutes >= 2880:
        return f"{count(minutes // 1440, 'day')} ago"
    return f"{count(minutes // 60, 'hour')} ago" if minutes >= 120 else f"{minutes} min ago"
