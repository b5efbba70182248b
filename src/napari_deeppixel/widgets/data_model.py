"""The images of a dataset as a list that Qt shows: all of them, some filtered out."""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QObject, Qt

from napari_deeppixel.dataset.annotated import ImageState, Split
from napari_deeppixel.dataset.image_entry import ImageEntry

EntryRole = Qt.ItemDataRole.UserRole
# whether it is the image that is open in the viewer
OpenRole = Qt.ItemDataRole.UserRole + 1
STATE_WORDS = {
    ImageState.NONE: "not begun",
    ImageState.DRAFT: "draft",
    ImageState.COMPLETE: "complete",
}


class Show(StrEnum):
    """Which images the list shows."""

    ALL = "All"
    UNFINISHED = "Unfinished"
    NONE = "Not begun"
    DRAFT = "Draft"
    COMPLETE = "Complete"
    TRAIN = "Training"
    VAL = "Validation"
    TEST = "Test"
    PROBLEM = "With a problem"


def is_unfinished(entry: ImageEntry) -> bool:
    """Whether there is something left to do on an image that can be opened."""
    return not entry.problem and entry.state is not ImageState.COMPLETE


_SHOWN: dict[Show, Callable[[ImageEntry], bool]] = {
    Show.ALL: lambda _: True,
    Show.UNFINISHED: is_unfinished,
    Show.NONE: lambda entry: entry.state is ImageState.NONE,
    Show.DRAFT: lambda entry: entry.state is ImageState.DRAFT,
    Show.COMPLETE: lambda entry: entry.state is ImageState.COMPLETE,
    Show.TRAIN: lambda entry: entry.split is Split.TRAIN,
    Show.VAL: lambda entry: entry.split is Split.VAL,
    Show.TEST: lambda entry: entry.split is Split.TEST,
    Show.PROBLEM: lambda entry: bool(entry.problem),
}


class ImageListModel(QAbstractListModel):
    """The entries that pass the filter, in the dataset's order.

    Attributes
    ----------
    entries
        All of them.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.entries: tuple[ImageEntry, ...] = ()
        self._shown: list[ImageEntry] = []
        self._rows: dict[str, int] = {}
        self._text, self._show = "", Show.ALL
        self._open_id = ""

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802  Qt's name
        """Return how many images pass the filter."""
        return 0 if parent is not None and parent.isValid() else len(self._shown)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return name, tooltip or entry of a row."""
        if not index.isValid() or index.row() >= len(self._shown):
            return None
        entry = self._shown[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole | Qt.ItemDataRole.AccessibleTextRole:
                return f"{entry.file_name}, {state_words(entry)}"
            case Qt.ItemDataRole.ToolTipRole:
                return "\n".join(facts_of(entry))
            case _ if role == EntryRole:
                return entry
            case _ if role == OpenRole:
                return entry.image_id == self._open_id
        return None

    # -- what is shown ------------------------------------------------------------------------

    def set_entries(self, entries: Iterable[ImageEntry]) -> bool:
        """Show other entries; return whether rows moved, so that what was selected is gone."""
        self.entries = tuple(entries)
        return self._refill()

    def set_filter(self, text: str, show: Show) -> bool:
        """Show the images whose name holds a text and that `show` names; as `set_entries`."""
        if (text, show) == (self._text, self._show):
            return False
        self._text, self._show = text, show
        return self._refill()

    def _refill(self) -> bool:
        words, passes = self._text.casefold().split(), _SHOWN[self._show]
        shown = [
            entry
            for entry in self.entries
            if passes(entry) and all(word in entry.file_name.casefold() for word in words)
        ]
        ids = [entry.image_id for entry in shown]
        if ids == list(self._rows):
            before, self._shown = self._shown, shown
            for row, (was, entry) in enumerate(zip(before, shown, strict=True)):
                if was is not entry and was != entry:
                    self.dataChanged.emit(self.index(row), self.index(row))
            return False
        self.beginResetModel()
        self._shown, self._rows = shown, {image_id: row for row, image_id in enumerate(ids)}
        self.endResetModel()
        return True

    def replace_entry(self, entry: ImageEntry) -> None:
        """Show what became of one image; it stays in sight although the filter may not want it."""
        self.entries = tuple(
            entry if each.image_id == entry.image_id else each for each in self.entries
        )
        row = self._rows.get(entry.image_id)
        if row is not None:
            self._shown[row] = entry
            self.dataChanged.emit(self.index(row), self.index(row))

    def set_open(self, image_id: str) -> None:
        """Mark the image that is open in the viewer; empty: none is."""
        before, self._open_id = self._open_id, image_id
        for each in (before, image_id):
            row = self._rows.get(each)
            if row is not None:
                self.dataChanged.emit(self.index(row), self.index(row))

    def refresh_key(self, sha256: str) -> None:
        """Draw the rows of a content again."""
        for row, entry in enumerate(self._shown):
            if entry.sha256 == sha256:
                self.dataChanged.emit(self.index(row), self.index(row))

    # -- which is where -----------------------------------------------------------------------

    def row_of(self, image_id: str) -> int | None:
        """Return the row of an image; None if the filter hides it."""
        return self._rows.get(image_id)

    def entry_at(self, row: int) -> ImageEntry:
        """Return the entry of a row."""
        return self._shown[row]

    def neighbour(self, image_id: str, step: int) -> ImageEntry | None:
        """Return the image that comes `step` rows after another; None at the end of the list.

        After one that the filter hides comes what would come there in the whole list.
        """
        row = self._rows.get(image_id)
        if row is None:
            later = self._after(image_id)
            row = later - 1 if step > 0 else later
        row += step
        return self._shown[row] if 0 <= row < len(self._shown) else None

    def _after(self, image_id: str) -> int:
        """Return how many shown rows come before an image that is not shown."""
        before: set[str] = set()
        for entry in self.entries:
            if entry.image_id == image_id:
                return sum(each in before for each in self._rows)
            before.add(entry.image_id)
        return 0

    def next_unfinished(self, image_id: str) -> ImageEntry | None:
        """Return the next image with something left to do, from the top again after the last."""
        row = self._rows.get(image_id)
        start = self._after(image_id) if row is None else row + 1
        turned = self._shown[start:] + self._shown[:start]
        return next((e for e in turned if is_unfinished(e) and e.image_id != image_id), None)


def state_words(entry: ImageEntry) -> str:
    """Return how far an image is, in words."""
    return "cannot be read" if entry.problem else STATE_WORDS[entry.state]


def facts_of(entry: ImageEntry) -> list[str]:
    """Return what there is to say about an image, a line each."""
    if entry.problem:
        return [entry.file_name, f"cannot be read: {entry.problem}"]
    height, width = entry.image_hw
    planes = f" · {entry.num_planes:,} planes" if entry.num_planes > 1 else ""
    by_whom = "set by hand" if entry.is_split_pinned else "automatic"
    facts = [
        entry.file_name,
        f"{state_words(entry)} · {count_words(entry)}",
        f"{width:,} x {height:,} px{planes}",
        f"{_SPLIT_WORDS[entry.split]} ({by_whom})",
    ]
    if entry.group:
        facts.append(f"group: {entry.group}")
    if entry.is_referenced:
        facts.append(f"stays where it is: {entry.reference}")
    return facts


_SPLIT_WORDS = {
    Split.TRAIN: "for training",
    Split.VAL: "for validation",
    Split.TEST: "for testing",
}


def count_words(entry: ImageEntry) -> str:
    """Return how many instances an image has and how many need a look."""
    if not entry.num_instances:
        return "no instances"
    plural = "" if entry.num_instances == 1 else "s"
    left = f", {entry.num_unreviewed:,} to review" if entry.num_unreviewed else ""
    return f"{entry.num_instances:,} instance{plural}{left}"


def totals_of(entries: Sequence[ImageEntry]) -> str:
    """Return how many images and instances there are, in a line."""
    states = [entry.state for entry in entries if not entry.problem]
    parts = [f"{len(entries):,} image{'' if len(entries) == 1 else 's'}"]
    for state in (ImageState.COMPLETE, ImageState.DRAFT, ImageState.NONE):
        number = states.count(state)
        if number:
            parts.append(f"{number:,} {STATE_WORDS[state]}")
    if len(states) < len(entries):
        parts.append(f"{len(entries) - len(states):,} cannot be read")
    parts.append(f"{sum(entry.num_instances for entry in entries):,} instances")
    return " · ".join(parts)
