"""What the role host makes of the result of Ansible's task."""

from __future__ import annotations

from ttybridge.setup.reading import reading


class Unsafe(str):
    """A text of a host as ansible-core 2.18 passes it: it stays what it is."""

    def __str__(self) -> str:
        return self


def test_a_text_of_ansible_is_read() -> None:
    said = Unsafe("{fault: '', network: {}, release: '12'}")
    read = reading({"rc": 0, "stdout": said})
    assert (read["fault"], read["read"]["release"]) == ("", "12")
