"""One undo stack for everything that is done to the instances of an image."""

from collections import deque

from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits.action import Action

# a long day's work; older steps can no longer be taken back, so that memory stays flat
MAX_STEPS = 2000


class History:
    """What was done and what was taken back.

    Parameters
    ----------
    max_steps
        Oldest steps beyond this number are forgotten.
    """

    def __init__(self, max_steps: int = MAX_STEPS) -> None:
        self._done: deque[Action] = deque(maxlen=max_steps)
        self._undone: list[Action] = []
        self._joins = ""

    def __len__(self) -> int:
        return len(self._done)

    @property
    def top(self) -> Action | None:
        """The newest step that was done; None if there is none."""
        return self._done[-1] if self._done else None

    @property
    def undo_name(self) -> str:
        """What undo would take back; empty if there is nothing."""
        return self._done[-1].name if self._done else ""

    @property
    def redo_name(self) -> str:
        """What redo would do again; empty if there is nothing."""
        return self._undone[-1].name if self._undone else ""

    def push(self, action: Action, *, joins: str = "") -> None:
        """Note an action that was done; steps with the same `joins` that follow each other are one.

        What was undone before can no longer be done again.
        """
        self._undone.clear()
        _pack(action.inverse())
        if joins and joins == self._joins and self._done:
            self._done.append(self._done.pop().then(action))
        else:
            self._done.append(action)
        self._joins = joins

    def undo(self) -> Action | None:
        """Return the action that takes the last step back; None if there is none."""
        if not self._done:
            return None
        self._joins = ""
        self._undone.append(self._done.pop())
        _pack(self._undone[-1])
        return self._undone[-1].inverse()

    def redo(self) -> Action | None:
        """Return the step that was taken back last, to be done again; None if there is none."""
        if not self._undone:
            return None
        self._joins = ""
        self._done.append(self._undone.pop())
        _pack(self._done[-1].inverse())
        return self._done[-1]

    def last_known(self, uuid: str) -> Instance | None:
        """Return an instance as the newest step that touched it knew it; None if none did."""
        for action in (*reversed(self._done), *self._undone):
            for change in action.changes:
                if change.uuid == uuid:
                    return change.after or change.before
        return None


def _pack(action: Action) -> None:
    """Compress the masks that an action leads to, where it is not done: they may be large."""
    for change in action.changes:
        before, after = change.before, change.after
        if after is not None and (before is None or before.mask is not after.mask):
            after.mask.pack()
