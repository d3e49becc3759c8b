"""A person: an account of the host, as the kernel and NSS know it, and what it may do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

# Its members may open every serial device of the host, so they also administer the daemon.
ADMINISTRATORS = "dialout"


@dataclass
class Person:
    """Who asks the daemon for something.

    `is_owner` is true for root and for the account that the daemon runs as. What sudo and the
    program say (`sudo_user`, `by`, `address`) is shown, and is no proof of anything.
    """

    name: str
    groups: list[str] = field(default_factory=list)
    is_owner: bool = False
    sudo_user: str = ""
    by: str = ""
    """How the person has come, such as `ssh`; "" if at the host itself."""
    address: str = ""

    def __str__(self) -> str:
        return f"{self.sudo_user} ({self.name})" if self.sudo_user else self.name

    @property
    def way(self) -> str:
        """How the person has come, in words; "" if at the host itself."""
        return way(self.by, self.address)

    @property
    def administers(self) -> bool:
        """Whether the person may see every port and give devices to other programs."""
        return self.is_owner or ADMINISTRATORS in self.groups

    def may_see(self, users: Collection[str]) -> bool:
        """Whether the person may see the state of a port with these `users`, and close clients."""
        return self.administers or self.may_use(users)

    def may_use(self, users: Collection[str]) -> bool:
        """Whether the person may use a port with these `users`: accounts, and groups as @group."""
        wanted = users or (f"@{ADMINISTRATORS}",)
        mine = {self.name, *(f"@{group}" for group in self.groups)}
        if self.name.startswith("@"):  # no directory makes a group of an account
            mine.remove(self.name)
        return self.is_owner or not mine.isdisjoint(wanted)


def way(by: str, address: str) -> str:
    """How somebody has come, in words such as `by ssh from 192.0.2.7`; "" where `by` is."""
    if not by:
        return ""
    return f"by {by} from {address}" if address else f"by {by}"


def called(address: str, names: Sequence[str]) -> str:
    """What people call a client: its address, after the first name in its TLS certificate.

    A CA may sign what it likes: of the name only one short line is shown.
    """
    if not names:
        return address
    return f"{''.join(one if one.isprintable() else '?' for one in names[0])[:64]} at {address}"


def in_words(users: Collection[str]) -> str:
    """Who may use a port with these `users`, in words."""
    *rest, last = users or ("root", f"@{ADMINISTRATORS}")
    return f"{', '.join(rest)} and {last}" if rest else last
