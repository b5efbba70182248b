"""One undo stack for everything that is done to the instances of an image."""

from collections import deque

from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits.action import Action

# a long day's work; older steps can no longer be taken back, so that memory stays flat
MAX_STEPS = 2000
# 260 bytes each where a mask stays as it is (measured on accepting 2,000 instances 200 times):
# 130 MB, and a thousand steps of 500 instances each
MAX_CHANGES = 500_000


class History:
    """What was done and what was taken back.

    Parameters
    ----------
    max_steps
        Oldest steps beyond this number are forgotten.
    max_changes
        So are those with which the steps hold more changes of instances; the newest step stays.
    """

    def __init__(self, max_steps: int = MAX_STEPS, max_changes: int = MAX_CHANGES) -> None:
        self._max_steps, self._max_changes = max_steps, max_changes
        self._done: deque[Action] = deque()
        self._undone: list[Action] = []
        # of the steps that are done
        self._num_changes = 0
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
            action = self._pop().then(action)
        self._append(action)
        while len(self._done) > 1 and self._is_too_long:
            self._num_changes -= len(self._done.popleft().changes)
        self._joins = joins

    @property
    def _is_too_long(self) -> bool:
        return len(self._done) > self._max_steps or self._num_changes > self._max_changes

    def _append(self, action: Action) -> None:
        self._done.append(action)
        self._num_changes += len(action.changes)

    def _pop(self) -> Action:
        action = self._done.pop()
        self._num_changes -= len(action.changes)
        return action

    def undo(self) -> Action | None:
        """Return the action that takes the last step back; None if there is none."""
        if not self._done:
            return None
        self._joins = ""
        self._undone.append(self._pop())
        _pack(self._undone[-1])
        return self._undone[-1].inverse()

    def redo(self) -> Action | None:
        """Return the step that was taken back last, to be done again; None if there is none."""
        if not self._undone:
            return None
        self._joins = ""
        self._append(self._undone.pop())
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
    there = {id(change.before.mask) for change in action.changes if change.before is not None}
    for change in action.changes:
        if change.after is not None and id(change.after.mask) not in there:
            change.after.mask.pack()
