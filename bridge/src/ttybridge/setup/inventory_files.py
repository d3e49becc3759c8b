"""The files of an Ansible inventory: where Ansible looks, what it finds there, what is wrong.

Ansible itself says little: it only warns of a key that is written twice, and it ignores a file that
belongs to no host. This module finds files as Ansible's plugin host_group_vars does, and reads them
without evaluating anything: a tag such as `!vault` or `!unsafe` is left alone.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttybridge.model.check import Fault
from ttybridge.model.values import label

EXTENSIONS = (".yml", ".yaml", ".json")
HOST_VARS, GROUP_VARS = "host_vars", "group_vars"

# What a folder is meant to be whose name is nearly one of these, without signs and capitals.
_MEANT = {
    **dict.fromkeys(("hostvars", "hostvariables", "varshost"), HOST_VARS),
    **dict.fromkeys(("groupvars", "groupvariables", "varsgroup"), GROUP_VARS),
}
_ALIKE = 0.85

# The tag of <<, which a mapping may have more than once.
_MERGE = "tag:yaml.org,2002:merge"

# What Ansible takes for no inventory in a folder of them, and what our ansible.cfg adds.
_NO_INVENTORY = re.compile(
    r"^vars_plugins$|^tls$|~$"
    r"|\.(pyc|pyo|swp|bak|rpm|md|txt|rst|orig|cfg|retry|pem|crt|key)$"
)


@dataclass(frozen=True)
class Key:
    """A key at the top of a file: its line, and whether it has no value or an empty one."""

    line: int
    empty: bool


@dataclass(frozen=True)
class Document:
    """One file: the keys at its top, and its faults.

    `broken` is the fault of a file that is no YAML at all. `known` is false of a file whose keys
    cannot be told: it is encrypted, or is not YAML.
    """

    keys: Mapping[str, Key] = field(default_factory=dict)
    twice: tuple[Fault, ...] = ()
    broken: Fault | None = None
    known: bool = True


@dataclass(frozen=True)
class Found:
    """The files of one host or group: those that Ansible reads, and those that it ignores.

    `ignored` are (file, the one that Ansible reads instead).
    """

    files: tuple[Path, ...] = ()
    ignored: tuple[tuple[Path, Path], ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a variable is written."""

    file: Path
    key: Key

    def __str__(self) -> str:
        return f"{shown_path(self.file)}:{self.key.line}"


class InventoryFiles:
    """The files that Ansible reads beside the sources of an inventory and beside a playbook."""

    def __init__(self, sources: Iterable[str], playbooks: str = "") -> None:
        """`sources` are those of -i; `playbooks` is the folder of the playbook, if any."""
        self.sources = [Path(one) for one in sources if one and not _is_host_list(one)]
        beside = [one if one.is_dir() else one.parent for one in self.sources]
        self.folders = list(dict.fromkeys(beside))
        self._playbooks = Path(playbooks) if playbooks else None
        read = [*self.folders, *([self._playbooks] if self._playbooks else [])]
        by_real_name = {os.path.realpath(one): one for one in read}
        self._bases = list(by_real_name.values())
        self._listed: dict[Path, dict[str, Path]] = {}

    def of_host(self, name: str) -> Found:
        """The files in host_vars of a host."""
        return self._of(HOST_VARS, name)

    def of_group(self, name: str) -> Found:
        """The files in group_vars of a group."""
        return self._of(GROUP_VARS, name)

    def wanted(self, host: str) -> Path | None:
        """The file in which a person writes the variables of a host; None if there is no folder."""
        return self.folders[0] / HOST_VARS / f"{host}.yml" if self.folders else None

    @functools.cached_property
    def inventories(self) -> list[Path]:
        """The files among the sources that hold hosts, those in folders included."""
        return [file for source in self.sources for file in _inventories(source)]

    @functools.cached_property
    def is_static(self) -> bool:
        """Whether all hosts are written in files: no program or service names some."""
        return not any(map(_is_dynamic, self.inventories))

    @functools.cached_property
    def inline(self) -> Mapping[tuple[str, str], tuple[tuple[str, Place], ...]]:
        """Variables in YAML inventories, as (name, place), by (kind, name) of host or group.

        The kind is `HOST_VARS` or `GROUP_VARS`.
        """
        found: dict[tuple[str, str], list[tuple[str, Place]]] = {}
        for file in self.inventories:
            for owner, name, key in _written_inline(file):
                found.setdefault(owner, []).append((name, Place(file, key)))
        return {owner: tuple(places) for owner, places in found.items()}

    def places(self, variable: str, host: str, groups: Iterable[str]) -> list[Place]:
        """Every place where a variable of a host, or of a group of it, is written."""
        owners = [(HOST_VARS, host), *((GROUP_VARS, group) for group in groups)]
        return [place for owner in owners for place in self._places(variable, *owner)]

    def twice(self, inventory: Path) -> list[Fault]:
        """A fault for each key that is written twice in one of `inventories`."""
        return list(read(inventory).twice) if inventory.suffix in EXTENSIONS else []

    def broken(self, hosts: Set[str], groups: Set[str], others: bool = True) -> list[Fault]:
        """A fault for each file that is no YAML: inventories, and files in *_vars.

        Of `others` than `hosts` and `groups` the files with an extension are read, or none.
        """
        files = [file for file in self.inventories if file.suffix in EXTENSIONS]
        for kind, names in ((HOST_VARS, hosts), (GROUP_VARS, groups)):
            for name, path in self._entries(kind):
                if name in names or (others and path.suffix in EXTENSIONS):
                    files += [path] if path.is_file() else _in_folder(path)
        documents = (read(file) for file in dict.fromkeys(files))
        return [one.broken for one in documents if one.broken]

    def strangers(self, hosts: Set[str], groups: Set[str]) -> Iterator[tuple[str, str, Path]]:
        """Each file or folder in host_vars and group_vars that belongs to none.

        As (kind, the name that it is for, path).
        """
        for kind, names in ((HOST_VARS, hosts), (GROUP_VARS, groups)):
            for name, path in self._entries(kind):
                if not names & {name, path.name} and _may_be_variables(path):
                    yield kind, name, path

    def misnamed(self) -> Iterator[tuple[Path, str]]:
        """Each folder that is nearly called host_vars or group_vars, with what it is meant to be.

        Only one that holds YAML files.
        """
        for base in self._bases:
            for folder in sorted(one for one in _listed(base) if one.is_dir()):
                meant = _meant(folder.name)
                if meant and any(one.suffix in EXTENSIONS for one in _listed(folder)):
                    yield folder, meant

    def beside(self, hosts: Set[str], groups: Set[str]) -> Iterator[tuple[Path, str]]:
        """Each file named like a host or group that is beside host_vars and not in it."""
        for folder in self.folders:
            for file in sorted(_listed(folder)):
                if file.suffix not in EXTENSIONS or file in self.sources or not file.is_file():
                    continue
                kind = HOST_VARS if file.stem in hosts else GROUP_VARS
                if file.stem in hosts or file.stem in groups:
                    yield file, kind

    def _places(self, variable: str, kind: str, name: str) -> Iterator[Place]:
        for written, place in self.inline.get((kind, name), ()):
            if written == variable:
                yield place
        for file in self._of(kind, name).files:
            if key := read(file).keys.get(variable):
                yield Place(file, key)

    def _of(self, kind: str, name: str) -> Found:
        files: list[Path] = []
        ignored: list[tuple[Path, Path]] = []
        for base in self._bases:
            listed = self._folder(base / kind)
            there = [listed[one] for one in _file_names(name) if one in listed]
            if there:
                files += [there[0]] if there[0].is_file() else _in_folder(there[0])
                ignored += [(other, there[0]) for other in there[1:]]
        return Found(tuple(files), tuple(ignored))

    def _entries(self, kind: str) -> Iterator[tuple[str, Path]]:
        """The files and folders in all folders of a kind, each with the name that it is for."""
        for base in self._bases:
            for name, path in sorted(self._folder(base / kind).items()):
                yield (name[: -len(path.suffix)] if path.suffix in EXTENSIONS else name), path

    def _folder(self, folder: Path) -> dict[str, Path]:
        """What is in a folder, by name; a folder is listed once."""
        if folder not in self._listed:
            self._listed[folder] = {path.name: path for path in _listed(folder)}
        return self._listed[folder]


def read(file: Path) -> Document:
    """Read a YAML file; of one that cannot be read, because Ansible says that, nothing is known."""
    try:
        about = file.stat()
    except OSError:
        return Document(known=False)
    return _read(file, about.st_mtime_ns, about.st_size)


def shown_path(path: Path) -> str:
    """A path for a message: from where the command runs, if it is below that."""
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    # In full: a path that is cut short helps nobody.
    return str(shown) if str(shown).isprintable() else repr(str(shown))


@functools.cache
def _read(file: Path, _changed: int, _size: int) -> Document:
    try:
        written = file.read_bytes()
    except OSError:
        return Document(known=False)
    if written.startswith(b"$ANSIBLE_VAULT"):
        return Document(known=False)
    try:
        text = written.decode("utf-8")
    except UnicodeDecodeError as error:
        line = written.count(b"\n", 0, error.start) + 1
        place = f"{shown_path(file)}:{line}"
        problem = f"byte 0x{written[error.start]:02x} is not UTF-8: save the file as UTF-8"
        return Document(broken=Fault(place, "YAML", problem), known=False)
    return _document(file, text)


def _document(file: Path, text: str) -> Document:
    import yaml

    try:
        root = _compose(text)
    except yaml.MarkedYAMLError as error:
        # Ansible tries JSON first, which may be indented with tabs.
        return Document(broken=None if _is_json(text) else _broken(file, text, error), known=False)
    except (yaml.YAMLError, RecursionError) as error:
        problem = f"{error}".replace("\n", " ")
        return Document(broken=Fault(shown_path(file), "YAML", problem), known=False)
    if not isinstance(root, yaml.MappingNode):
        return Document(known=root is None)
    keys = {
        key.value: Key(key.start_mark.line + 1, _is_empty(value))
        for key, value in root.value
        if isinstance(key, yaml.ScalarNode)
    }
    twice = sorted(_twice(file, root), key=lambda fault: _line(fault.place))
    return Document(keys, tuple(twice))


def _compose(text: str) -> Any:
    """The nodes of a YAML text, without making values of them."""
    import yaml

    return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_empty(node: Any) -> bool:
    if node.id == "scalar":
        return bool(node.tag == "tag:yaml.org,2002:null")
    return not node.value


def _broken(file: Path, text: str, error: Any) -> Fault:
    """What YAML says about a text, with where, and what to look at."""
    mark = error.problem_mark or error.context_mark
    place = f"{shown_path(file)}:{mark.line + 1}:{mark.column + 1}" if mark else shown_path(file)
    begin = f" from line {error.context_mark.line + 1} on" if error.context_mark else ""
    context = f" ({error.context}{begin})" if error.context else ""
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    return Fault(place, "YAML", f"{error.problem}{context}: {_cure(line)}")


def _cure(line: str) -> str:
    """What to do about a line that is no YAML."""
    if re.match(r" *\t", line):
        return "indent the line with spaces: YAML takes no tabs"
    if re.search(r"[:-] *\{\{", line):
        return 'write the value in quotes: "{{ ... }}"'
    if re.search(r"[:-] *[@`%]", line):
        return "write the value in quotes"
    return "look at the indentation, quotes and brackets of this line and of the one above"


def _line(place: str) -> int:
    return int(place.rpartition(":")[2])


def _twice(file: Path, root: Any) -> Iterator[Fault]:
    """A fault for each key that a mapping has twice."""
    # Each node once, also if it has several aliases.
    seen = {id(root)}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        inner = node.value
        if node.id == "mapping":
            yield from _twice_in(file, node)
            inner = [value for _, value in node.value]
        for one in inner:
            if one.id != "scalar" and id(one) not in seen:
                seen.add(id(one))
                waiting.append(one)


def _twice_in(file: Path, mapping: Any) -> Iterator[Fault]:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in mapping.value:
        if key.id != "scalar" or key.tag == _MERGE:
            continue
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in lines:
            problem = f"line {lines[name]} has this key, too, and Ansible uses only the last one"
            yield Fault(f"{shown_path(file)}:{line}", label(key.value), f"{problem}: keep one")
        lines[name] = line


def _written_inline(file: Path) -> Iterator[tuple[tuple[str, str], str, Key]]:
    """Each variable in a YAML inventory: ((kind, name of host or group), variable, where)."""
    import yaml

    if file.suffix not in EXTENSIONS:
        return
    try:
        root = _compose(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return
    waiting = _pairs(root)
    seen = set()
    while waiting:
        group, node = waiting.pop()
        if (group, id(node)) in seen:
            continue
        seen.add((group, id(node)))
        for part, inner in _pairs(node):
            if part == "children":
                waiting += _pairs(inner)
            elif part == "vars":
                yield from _variables((GROUP_VARS, group), inner)
            elif part == "hosts":
                for pattern, variables in _pairs(inner):
                    for host in expanded(pattern):
                        yield from _variables((HOST_VARS, host), variables)


def _variables(owner: tuple[str, str], node: Any) -> Iterator[tuple[tuple[str, str], str, Key]]:
    if node.id == "mapping":
        for key, value in node.value:
            if key.id == "scalar":
                yield owner, key.value, Key(key.start_mark.line + 1, _is_empty(value))


def _pairs(node: Any) -> list[tuple[str, Any]]:
    if node is None or node.id != "mapping":
        return []
    return [(key.value, value) for key, value in node.value if key.id == "scalar"]


def expanded(pattern: str) -> list[str]:
    """The hosts that a name in an inventory means: `pi[01:03]` are three, `pi[a:c]`, too."""
    match = re.fullmatch(r"(.*?)\[(\w+):(\w+)(?::(\d+))?\](.*)", pattern)
    if not match:
        return [pattern]
    head, first, last, step, tail = match.groups()
    if first.isdecimal() and last.isdecimal():
        numbers = range(int(first), int(last) + 1, int(step or 1) or 1)
        width = len(first) if first.startswith("0") else 0
        middle = [f"{number:0{width}}" for number in numbers]
    elif len(first) == len(last) == 1:
        middle = [chr(code) for code in range(ord(first), ord(last) + 1, int(step or 1) or 1)]
    else:
        return [pattern]
    return [head + one + rest for one in middle for rest in expanded(tail)]


def _is_host_list(source: str) -> bool:
    return "," in source and not os.path.exists(source)


def _inventories(source: Path) -> Iterator[Path]:
    """The files with hosts that a source means: itself, or those in it if it is a folder."""
    if not source.is_dir():
        yield source
        return
    for path in sorted(_listed(source)):
        name = path.name
        if not _NO_INVENTORY.search(name) and not _meant(name, exactly=True):
            yield from _inventories(path)


def _is_dynamic(file: Path) -> bool:
    """Whether a source is a program, or names a plugin that asks something else for hosts."""
    try:
        if file.suffix not in EXTENSIONS:
            with file.open("rb") as source:
                return source.read(2) == b"#!"
    except OSError:
        return True
    return "plugin" in read(file).keys


def _meant(folder: str, exactly: bool = False) -> str:
    """host_vars or group_vars, if the name of a folder is nearly that.

    The right name is meant only if it is asked for `exactly`.
    """
    if folder in (HOST_VARS, GROUP_VARS):
        return folder if exactly else ""
    letters = re.sub("[^a-z]", "", folder.lower())
    near = difflib.get_close_matches(letters, _MEANT, 1, cutoff=_ALIKE)
    return _MEANT[near[0]] if near else ""


def _file_names(name: str) -> list[str]:
    """What Ansible looks for, in this order; it reads the first that is there."""
    return [name, *(name + extension for extension in EXTENSIONS)]


def _in_folder(folder: Path) -> list[Path]:
    """The files in host_vars/NAME/ that Ansible reads."""
    found: list[Path] = []
    for path in sorted(_listed(folder)):
        if path.is_dir() and not path.suffix:
            found += _in_folder(path)
        elif path.suffix in ("", *EXTENSIONS) and not path.name.endswith("~") and path.is_file():
            found.append(path)
    return found


def _may_be_variables(path: Path) -> bool:
    """Whether something in host_vars is meant to be read: no note, no copy of an editor."""
    return path.suffix in EXTENSIONS or path.is_dir()


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files; nothing if it is none."""
    try:
        return [folder / name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []
