"""What a person can do in the Review tab, each with a button, a key, or both."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

# group of the commands that name a category by its place in the list
CATEGORY = "Category"


@dataclass(frozen=True, kw_only=True)
class Command:
    """One thing to do.

    Attributes
    ----------
    id
        Stable name, under which a person's own key is kept.
    caption
        Short text of its button.
    tooltip
        What it does, in a sentence.
    run
        Does it.
    key
        Default key as napari spells it, such as ``Shift-N``; empty: none.
    group
        Heading in the table of keys.
    """

    id: str
    caption: str
    tooltip: str
    run: Callable[[], object]
    key: str = ""
    group: str = ""


class CommandSet:
    """Commands in their order, by id.

    Raises
    ------
    ValueError
        If two have one id.
    """

    def __init__(self, commands: Iterable[Command]) -> None:
        self._commands: dict[str, Command] = {}
        for command in commands:
            if command.id in self._commands:
                raise ValueError(f"two commands are called {command.id!r}")
            self._commands[command.id] = command

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands.values())

    def __len__(self) -> int:
        return len(self._commands)

    def __getitem__(self, command_id: str) -> Command:
        return self._commands[command_id]

    def __contains__(self, command_id: object) -> bool:
        return command_id in self._commands
