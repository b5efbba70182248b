"""The parts of the Review tab: what is where, and what it is called."""

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.queue import QueueOrder
from napari_deeppixel.viewer.colors import ColorBy
from napari_deeppixel.widgets.commands import Command, CommandSet
from napari_deeppixel.widgets.controls import Note, button, combo, named
from napari_deeppixel.widgets.shortcuts import Shortcuts

_COLUMNS = 3
# left and right of a button's text together, as napari's style has it
_BUTTON_PADDING_PX = 4


class CommandButton(QPushButton):
    """A button of a command; its tooltip tells the key.

    Attributes
    ----------
    caption
        All of its text, also where there is no room for it.
    """

    def __init__(self, command: Command, shortcuts: Shortcuts) -> None:
        super().__init__(command.caption)
        self._command, self._shortcuts = command, shortcuts
        self.setObjectName(f"review.{command.id}")
        # the key goes to the canvas afterwards, as before
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(10)
        self.caption = command.caption
        self.show_key()

    def show_key(self) -> None:
        """Tell the key of now."""
        key = self._shortcuts.key(self._command.id)
        is_cut = self.text() != self.caption
        caption = f"{self.caption}\n" if is_cut else ""
        self.setToolTip(caption + self._command.tooltip + (f"  Key: {key}" if key else ""))

    def show_caption(self, caption: str) -> None:
        """Show another caption, as far as there is room; the tooltip has the rest."""
        self.caption = caption
        self._fit()

    def _fit(self) -> None:
        room = self.width() - _BUTTON_PADDING_PX
        metrics = self.fontMetrics()
        self.setText(metrics.elidedText(self.caption, Qt.TextElideMode.ElideRight, room))
        self.show_key()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fit the caption into the new width."""
        super().resizeEvent(event)
        self._fit()


class ReviewPanels:
    """Makes and holds the widgets of the Review tab.

    Parameters
    ----------
    commands, shortcuts
        What the buttons do, and their keys.
    """

    def __init__(self, commands: CommandSet, shortcuts: Shortcuts) -> None:
        self._commands, self._shortcuts = commands, shortcuts
        self.buttons: dict[str, CommandButton] = {}
        self.order = combo("review.order", "Which instances to go through, and which first.")
        for order in QueueOrder:
            self.order.addItem(order.value, order)
        self.category = combo("review.queue_category", "Category to go through.")
        self.category.hide()
        self.progress = named(QProgressBar(), "review.progress", "How much is reviewed.")
        self.progress.setTextVisible(True)
        self.status = Note("review.status", lines=2)
        self.by_hand = button(
            "Annotate by hand",
            "review.by_hand",
            "Start without a model: paint, trace or box the objects yourself.",
        )
        self.rule = combo(
            "review.rule",
            "What painting over another instance does to it. Its hidden pixels always survive.",
        )
        for rule in OverlapRule:
            self.rule.addItem(rule.value, rule)
        self.color = combo("review.color", "What the colours of the masks tell.")
        for by in ColorBy:
            self.color.addItem(by.value, by)
        self.drawn_category = combo(
            "review.drawn_category", "Category of what you paint or trace anew."
        )
        self.complete = Note("review.complete_text")

    def queue_box(self) -> QVBoxLayout:
        """Return the queue's selector, progress, and the way to the next."""
        selector = QHBoxLayout()
        selector.addWidget(self.order, 2)
        selector.addWidget(self.category, 1)
        box = QVBoxLayout()
        box.addLayout(selector)
        box.addWidget(self.progress)
        box.addLayout(self._row("previous", "next"))
        return box

    def decide_box(self) -> QVBoxLayout:
        """Return the buttons that decide about the selected instances."""
        box = QVBoxLayout()
        box.addLayout(self._row("accept", "reject", "unsure"))
        return box

    def tools_box(self) -> QWidget:
        """Return the buttons of all tools, and the settings of painting."""
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(
            self._grid(
                ("box", "missed", "again"),
                ("lasso", "split", "split-points"),
                ("unite", "delete", "delete-region"),
                ("fill", "specks", "smooth"),
                ("grow", "shrink", "hide-others"),
            )
        )
        self.planes = QWidget()
        row = self._row("copy-next", "interpolate")
        row.setContentsMargins(0, 0, 0, 0)
        self.planes.setLayout(row)
        layout.addWidget(self.planes)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Overlap", self.rule)
        form.addRow("New ones are", self.drawn_category)
        form.addRow("Colour by", self.color)
        layout.addLayout(form)
        return content

    def complete_box(self) -> QWidget:
        """Return what says which part of the image is complete."""
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.complete)
        layout.addLayout(self._row("complete-region", "complete-plane", "complete-none"))
        return content

    def undo_row(self) -> QHBoxLayout:
        """Return undo and redo, of the same width whatever they tell."""
        row = self._row("undo", "redo")
        for command_id in ("undo", "redo"):
            self.buttons[command_id].setSizePolicy(
                QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed
            )
        return row

    def _row(self, *ids: str) -> QHBoxLayout:
        row = QHBoxLayout()
        for command_id in ids:
            row.addWidget(self._button(command_id))
        return row

    def _grid(self, *rows: Sequence[str]) -> QGridLayout:
        grid = QGridLayout()
        for y, ids in enumerate(rows):
            for x, command_id in enumerate(ids):
                grid.addWidget(self._button(command_id), y, x)
        for x in range(_COLUMNS):
            grid.setColumnStretch(x, 1)
        return grid

    def _button(self, command_id: str) -> CommandButton:
        made = CommandButton(self._commands[command_id], self._shortcuts)
        self.buttons[command_id] = made
        return made


def collapsible(title: str, name: str, content: QWidget, *, is_open: bool = False) -> QCollapsible:
    """Return a part that can be folded away."""
    part = QCollapsible(title)
    part.setObjectName(name)
    part.setDuration(0)
    part.addWidget(content)
    if is_open:
        part.expand(animate=False)
    return part
