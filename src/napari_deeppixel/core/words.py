"""Counts and lists in words for people."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """Return a number of things: ``1 prediction``, ``2,000 predictions``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names with commas, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
