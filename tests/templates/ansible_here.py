"""What Ansible makes of host_vars: read and templated as in ansible-playbook, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ansible.template
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[2]

init_plugin_loader([str(ROOT / "collections")])

# From 2.19 on only what has this mark is a template; host_vars have it.
_trusted = getattr(ansible.template, "trust_as_template", str)


class Inventory:
    """An inventory with one host, pi."""

    def __init__(self, folder: Path) -> None:
        (folder / "host_vars").mkdir()
        self._hosts = folder / "hosts.yml"
        self._hosts.write_text("serial_servers: {hosts: {pi: {}}}\n")
        self._vars = folder / "host_vars" / "pi.yml"

    def evaluated(self, host_vars: str, expression: str) -> Any:
        """A Jinja expression over the host's variables, which are `host_vars` in YAML."""
        self._vars.write_text(host_vars, encoding="utf-8")
        loader = DataLoader()
        inventory = InventoryManager(loader=loader, sources=[str(self._hosts)])
        variables = VariableManager(loader=loader, inventory=inventory)
        known = variables.get_vars(host=inventory.get_host("pi"))
        # Noted as a fact and used once more, as the roles do.
        noted = Templar(loader, variables=known).template(_trusted("{{ " + expression + " }}"))
        again = Templar(loader, variables={"noted": noted}).template(_trusted("{{ noted }}"))
        return json.loads(json.dumps(again, default=str))
