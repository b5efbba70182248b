"""Numbers as they are typed, checked."""

import argparse


def size_hw(text: str) -> tuple[int, int]:
    """Return (height, width) of a text such as 640x480."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}: give width and height, such as 640x480")
    return int(height), int(width)


def magnification(text: str) -> float:
    """Return a number in 0.1 to 10."""
    value = _number(text, float)
    if not 0.1 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r}: must lie in 0.1 to 10")
    return value


def share(text: str) -> float:
    """Return a number in 0 to 1."""
    value = _number(text, float)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must lie in 0 to 1")
    return value


def above_zero(text: str) -> float:
    """Return a number above 0."""
    value = _number(text, float)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be above 0")
    return value


def positive(text: str) -> int:
    """Return a whole number of 1 or more."""
    value = int(_number(text, int))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 1 or more")
    return value


def count(text: str) -> int:
    """Return a whole number of 0 or more."""
    value = int(_number(text, int))
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 0 or more")
    return value


def _number(text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r}: must be {what}") from None
