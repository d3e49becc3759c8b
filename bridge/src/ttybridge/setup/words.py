"""Words that several messages need."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 host" and "2 hosts"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
