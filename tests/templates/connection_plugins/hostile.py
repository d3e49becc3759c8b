"""A connection to a host that answers every command, of a module too, with one text of its own."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: hostile
short_description: What a hostile host answers
options:
  remote_addr:
    description: Its name.
    default: inventory_hostname
    vars: [{name: inventory_hostname}]
"""


class Connection(ConnectionBase):  # type: ignore[misc]  # Ansible has no types.
    """What Ansible loads; HOSTILE_STDOUT, HOSTILE_STDERR and HOSTILE_STATUS are the answer.

    Without HOSTILE_STATUS the host cannot be reached; HOSTILE_STDERR says why.
    """

    transport = "hostile"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def exec_command(
        self, cmd: str, in_data: Any = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Answer; a folder for temporary files has to be named first."""
        if "ansible-tmp-" in cmd and "mkdir" in cmd:
            return 0, b"/nowhere/.ansible/tmp/ansible-tmp-1\n", b""
        if "HOSTILE_STATUS" not in os.environ:
            raise AnsibleConnectionFailure(os.environ["HOSTILE_STDERR"])
        said, told = (os.environ[f"HOSTILE_{name}"].encode() for name in ("STDOUT", "STDERR"))
        return int(os.environ["HOSTILE_STATUS"]), said, told

    def put_file(self, in_path: str, out_path: str) -> None:
        """Take a file."""

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Give no file."""

    def close(self) -> None:
        """End it."""
