"""The filters of sdcard.yml; all rules are in ttybridge.setup.sdcard (bridge/src)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.setup import sdcard
from ttybridge.setup.inventory import inert


def card_faults(host: str, written: Any, login: Mapping[str, str]) -> list[str]:
    """What is wrong with `serial_card` of a host: a line each."""
    return list(inert(sdcard.faults(host, written, sdcard.Login(**login))))


def card(host: str, written: Any, login: Mapping[str, str], host_key: str) -> dict[str, str]:
    """The files of a card by their names; each call makes those of another first start."""
    instance = str(int(time.time()))
    return dict(inert(sdcard.files(host, written, sdcard.Login(**login), host_key, instance)))


def public_key(private: str) -> str:
    """The public key of a private host key."""
    return str(inert(sdcard.public_key(private)))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by their names: playbooks write ttyfleet.serial. before them."""
        return {"card": card, "card_faults": card_faults, "public_key": public_key}
