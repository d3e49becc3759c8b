"""Files of host_vars as Ansible reads them: by libyaml, with its tag for texts without Jinja."""

from __future__ import annotations

from typing import Any

import yaml


class Unsafe(str):
    """A text in which Ansible looks for no Jinja."""

    __slots__ = ()


class _Loader(yaml.CSafeLoader):
    pass


def _unsafe(loader: _Loader, node: yaml.Node) -> Unsafe:
    assert isinstance(node, yaml.ScalarNode)
    return Unsafe(loader.construct_scalar(node))


_Loader.add_constructor("!unsafe", _unsafe)


def load(text: str) -> Any:
    """What a file of host_vars has; `Unsafe` are the texts with the tag."""
    return yaml.load(text, _Loader)


def seen_by_jinja(value: Any) -> list[str]:
    """The texts that Ansible would take for templates."""
    if isinstance(value, dict):
        return [text for item in value.items() for one in item for text in seen_by_jinja(one)]
    if isinstance(value, list):
        return [text for one in value for text in seen_by_jinja(one)]
    if not isinstance(value, str) or isinstance(value, Unsafe):
        return []
    return [str(value)] if any(sign in value for sign in ("{{", "{%", "{#", "#jinja2:")) else []
