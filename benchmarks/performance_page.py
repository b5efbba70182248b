"""Tables of measurements in docs/performance.md, between markers: a run replaces its own block."""

from collections.abc import Iterable, Sequence
from pathlib import Path

_END = "<!-- /bench -->"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown, ended by a new line."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables_of_printed(text: str) -> str:
    """Return as Markdown what a benchmark prints: cells apart by " | ", tables by empty lines."""
    blocks = [block.strip().splitlines() for block in text.split("\n\n") if block.strip()]
    return "\n".join(
        markdown_table(header.split(" | "), [row.split(" | ") for row in rows])
        for header, *rows in blocks
    )


def write_block(page: Path, subject: str, kind: str, text: str) -> None:
    """Put text in the place of a subject's block for one kind of device (``cpu``, ``cuda``).

    A kind that has no block yet gets one after the subject's last.

    Raises
    ------
    ValueError
        If the page has no block of the subject.
    """
    content = page.read_text(encoding="utf-8")
    marker = f"<!-- bench:{subject}:"
    opening = f"{marker}{kind} -->"
    block = f"{opening}\n{text.strip()}\n{_END}"
    start = content.find(opening)
    if start >= 0:
        end = content.index(_END, start) + len(_END)
    else:
        last = content.rfind(marker)
        if last < 0:
            raise ValueError(
                f"{page} has no place for these tables: add the lines {opening} and {_END}"
            )
        start = end = content.index(_END, last) + len(_END)
        block = f"\n\n{block}"
    page.write_text(content[:start] + block + content[end:], encoding="utf-8")
