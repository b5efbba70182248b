"""Looks for faults of a dataset, lists them with what a repair would do, and repairs."""

from collections.abc import Iterator
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QHeaderView,
    QProgressBar,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.store import Dataset, Fault
from napari_deeppixel.widgets.controls import RED, Note, button, named
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress

# more lines than anybody reads; the counts say how many there are
_MAX_LISTED = 1000
_MAX_TOLD = 3


class CheckDialog(QDialog):
    """Checks a dataset as soon as it is shown.

    Parameters
    ----------
    dataset
        Which one.
    parent
        Of the dialog.

    Signals
    -------
    repair_wanted
        Before a repair: whoever listens closes what is open and calls `repair`.
    repaired
        The dataset was changed.
    """

    repair_wanted = Signal()
    repaired = Signal()

    def __init__(self, dataset: Dataset, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("data.check_dialog")
        self.setWindowTitle(f"Check {dataset.path.name}")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(640, 420)
        self._dataset = dataset
        self.faults: list[Fault] = []
        self._groups: dict[str, QTreeWidgetItem] = {}
        self._done: list[str] = []
        # what to say before the result of the look that is under way
        self._before, self._has_failed = "", False
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_yielded)
        self._task.progressed.connect(self._on_progress)
        self._task.failed.connect(self._on_failed)
        self._task.finished.connect(self._on_finished)
        self._build()
        self.check()

    def _build(self) -> None:
        self.summary = Note("data.check_summary", lines=2)
        self.tree = named(QTreeWidget(), "data.faults", "")
        self.tree.setHeaderLabels(["What is wrong", "What a repair does"])
        self.tree.setMinimumHeight(120)
        self.detail = Note("data.check_detail", lines=3)
        self.tree.currentItemChanged.connect(self._on_chosen)
        header = self.tree.header()
        assert header is not None  # Qt makes it with the tree
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.resizeSection(1, 220)
        header.setStretchLastSection(False)
        self.progress = named(QProgressBar(), "data.check_progress", "How far it is.")
        self.progress.setRange(0, 1000)
        self.cancel = button("Stop", "data.check_cancel", "Stop looking.")
        self.again = button("Check again", "data.check_again", "Look once more.")
        self.repair_button = button(
            "Repair",
            "data.repair",
            "Do what the second column says. What is taken out is kept in the folder removed.",
        )
        close = button("Close", "data.check_close", "Close this list.")
        close.clicked.connect(self.close)
        self.cancel.clicked.connect(self._task.cancel)
        self.again.clicked.connect(self.check)
        self.repair_button.clicked.connect(self.repair_wanted)
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        for each in (self.cancel, self.again, self.repair_button, close):
            row.addWidget(each)
        layout = QVBoxLayout(self)
        layout.addWidget(self.summary)
        layout.addWidget(self.tree, 1)
        layout.addWidget(self.detail)
        layout.addLayout(row)

    # -- looking ------------------------------------------------------------------------------

    def check(self) -> None:
        """Look for faults."""
        if self._task.is_running:
            return
        self.faults, self._groups = [], {}
        self.tree.clear()
        dataset = self._dataset

        def work(cancel: CancelToken, report: ReportProgress) -> Iterator[Fault]:
            for found in dataset.check(cancel=cancel):
                if isinstance(found, Progress):
                    report(found)
                else:
                    yield found

        self._begin(work, "Looking at all images and annotations…")

    def repair(self) -> None:
        """Repair what can be repaired, then look again."""
        faults = [fault for fault in self.faults if fault.repair]
        if self._task.is_running or not faults:
            return
        dataset = self._dataset
        self._begin(lambda *_: iter([dataset.repair(faults)]), "Repairing…")

    def _begin(self, work: Any, caption: str) -> None:
        self._has_failed = False
        self.summary.say(caption, color="")
        self.progress.setValue(0)
        self._show_running(is_running=True)
        self._task.start(work)

    def _show_running(self, *, is_running: bool) -> None:
        self.progress.setVisible(is_running)
        self.cancel.setVisible(is_running)
        self.again.setVisible(not is_running)
        self.repair_button.setEnabled(not is_running and any(fault.repair for fault in self.faults))

    def _on_yielded(self, result: Fault | list[str]) -> None:
        if isinstance(result, Fault):
            self.faults.append(result)
            if len(self.faults) <= _MAX_LISTED:
                self._list(result)
        else:
            self._done = result

    def _list(self, fault: Fault) -> None:
        group = self._groups.get(fault.kind.value)
        if group is None:
            group = QTreeWidgetItem(self.tree, [fault.kind.value])
            group.setExpanded(True)
            self._groups[fault.kind.value] = group
        where = ", ".join(part for part in (fault.image_id, fault.entry) if part)
        text = f"{where}: {fault.message}" if where else fault.message
        item = QTreeWidgetItem(group, [text, fault.repair or "by hand"])
        whole = f"{text}. A repair would: {fault.repair}" if fault.repair else text
        item.setToolTip(0, whole)
        group.setText(0, f"{fault.kind.value} ({group.childCount():,})")

    def _on_chosen(self, item: QTreeWidgetItem | None, *_: object) -> None:
        # there is no room for a long message in a row
        self.detail.say("" if item is None else item.toolTip(0))

    def _on_progress(self, progress: Progress) -> None:
        self.progress.setValue(round(1000 * progress.fraction))
        self.progress.setFormat(progress.message)

    def _on_failed(self, error: BaseException) -> None:
        self._done, self._has_failed = [], True
        self.summary.say(str(error), color=RED)
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def _on_finished(self) -> None:
        self._show_running(is_running=False)
        done, self._done = self._done, []
        if done:
            self._before = f"{len(done):,} repaired: {'; '.join(done[:_MAX_TOLD])}. "
            self.repaired.emit()
            self.check()
        elif self._task.is_cancelled:
            self.summary.say("Stopped before the end.", color="")
        elif not self._has_failed:
            self.summary.say(f"{self._before}{self._found()}", color="")
            self._before = ""

    def _found(self) -> str:
        total = len(self.faults)
        if not total:
            return "No faults."
        safe = sum(bool(fault.repair) for fault in self.faults)
        listed = f" The first {_MAX_LISTED:,} are listed." if total > _MAX_LISTED else ""
        faults = "1 fault" if total == 1 else f"{total:,} faults"
        return f"{faults}; {safe:,} can be repaired safely.{listed}"

    def done(self, result: int) -> None:
        """Stop, and close."""
        self._task.abandon()
        super().done(result)

    def closeEvent(self, event: Any) -> None:
        """Stop, and close."""
        self._task.abandon()
        super().closeEvent(event)
