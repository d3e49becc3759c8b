"""A person: an account of the host, as the kernel and NSS know it, and what it may do."""

from __future__ import annotations

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
        if not self.by:
            return ""
        return f"by {self.by} from {self.address}" if self.address else f"by {self.by}"

    @property
    def administers(self) -> bool:
        """Whether the person may see every port and give devices to other programs."""
        return self.is_owner or ADMINISTRATORS in self.groups
