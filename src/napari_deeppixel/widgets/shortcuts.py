"""The keys of commands: what a person chose, what they clash with, and where they work."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from app_model.backends.qt import QKeyBindingSequence
from app_model.types import KeyBinding
from napari.layers import Layer
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, QSettings, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QGridLayout,
    QKeySequenceEdit,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.widgets.commands import CATEGORY, Command, CommandSet
from napari_deeppixel.widgets.controls import AMBER, Note, button, named
from napari_deeppixel.widgets.key_clashes import ShortcutError, binding_of, clashes_of, key_of
from napari_deeppixel.widgets.settings import own_settings

_GROUP = "shortcuts"
_TEXT_FIELDS = (QAbstractSpinBox, QKeySequenceEdit, QLineEdit, QPlainTextEdit, QTextEdit)


class Shortcuts(QObject):
    """The key of each command: what the person set, else its default.

    Parameters
    ----------
    commands
        The commands.
    settings
        Where a person's keys are kept; None: with the program's settings.

    Signals
    -------
    changed
        A key was changed.
    """

    changed = Signal()

    def __init__(
        self,
        commands: CommandSet,
        settings: QSettings | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.commands = commands
        self._settings = settings or own_settings()

    def key(self, command_id: str) -> str:
        """Return the key of a command in one spelling, such as ``Shift+N``; empty: none."""
        name = f"{_GROUP}/{command_id}"
        if self._settings.contains(name):
            key = str(self._settings.value(name))
            try:
                return key and str(binding_of(key))
            except ShortcutError:
                # somebody wrote nonsense into the file
                pass
        return self._default(command_id)

    def _default(self, command_id: str) -> str:
        key = self.commands[command_id].key
        return key and str(binding_of(key))

    @property
    def is_default(self) -> bool:
        """Whether all commands have the keys that they came with."""
        return all(self.key(each.id) == self._default(each.id) for each in self.commands)

    def set_key(self, command_id: str, key: str) -> None:
        """Give a command another key; empty: none.

        Raises
        ------
        ShortcutError
            If napari does not take this key.
        """
        key = key and str(binding_of(key))
        if key == self._default(command_id):
            self._settings.remove(f"{_GROUP}/{command_id}")
        else:
            self._settings.setValue(f"{_GROUP}/{command_id}", key)
        self.changed.emit()

    def reset(self) -> None:
        """Give all commands their default keys."""
        self._settings.remove(_GROUP)
        self.changed.emit()

    def clashes(self) -> dict[str, str]:
        """Return what else the keys of commands do, by command id; only those that do."""
        by_key: dict[str, list[Command]] = {}
        for command in self.commands:
            by_key.setdefault(self.key(command.id), []).append(command)
        by_key.pop("", None)
        return clashes_of(by_key)


class _Bound:
    """A key of a layer that is ours until `leave`."""

    def __init__(self, layer: Layer, key: KeyBinding, run: Callable[[], object]) -> None:
        self._layer, self._key, self._run = layer, key, run
        self._is_live = True
        # None: nothing was bound on this very layer
        self._before = layer.keymap.get(key)
        layer.bind_key(key, self._on_key, overwrite=True)

    def leave(self) -> None:
        """Give the key back to what had it, unless somebody else has taken it from us since."""
        self._is_live = False
        if self._layer.keymap.get(self._key) == self._on_key:
            self._put_back()

    def _put_back(self) -> None:
        self._layer.bind_key(self._key, self._before, overwrite=True)

    def _on_key(self, _layer: Layer) -> None:
        if not self._is_live:
            # a gesture that had taken it from us gave it back after we had left
            self._put_back()
        elif not _is_typing():
            try:
                self._run()
            except DeepPixelError as error:
                show_warning(str(error))


class KeyBinder:
    """Binds the keys of commands on layers while it is active, and puts back what was there.

    Parameters
    ----------
    shortcuts
        The keys.
    """

    def __init__(self, shortcuts: Shortcuts) -> None:
        self._shortcuts = shortcuts
        self._layers: list[Layer] = []
        self._bound: list[_Bound] = []
        self._borrowed: Mapping[str, Callable[[], object]] = {}
        self._category_keys: Mapping[str, Callable[[], object]] = {}
        shortcuts.changed.connect(self._bind_again)

    @property
    def is_active(self) -> bool:
        """Whether keys are bound."""
        return bool(self._layers)

    def activate(self, layers: Iterable[Layer]) -> None:
        """Bind the keys on these layers alone."""
        self._unbind()
        self._layers = list(layers)
        self._bind()

    def add_layer(self, layer: Layer) -> None:
        """Bind the keys on one more layer."""
        if layer not in self._layers:
            self.activate([*self._layers, layer])

    def remove_layer(self, layer: Layer) -> None:
        """Put back what the keys did before on a layer that is no longer ours."""
        self.activate([each for each in self._layers if each != layer])

    def deactivate(self) -> None:
        """Put back what the keys did before."""
        self._unbind()
        self._layers = []

    def borrow(self, keys: Mapping[str, Callable[[], object]]) -> None:
        """Give some more keys a meaning until `give_back`; they go before those of commands."""
        self._borrowed = keys
        self._bind_again()

    def set_category_keys(self, keys: Mapping[str, Callable[[], object]]) -> None:
        """Give the keys of categories their meaning; a command's own key goes before them.

        Those that name a category by its place in the list make way.
        """
        if keys.keys() | self._category_keys.keys():
            self._category_keys = keys
            self._bind_again()

    def give_back(self) -> None:
        """Put back what was borrowed."""
        self.borrow({})

    def _bind_again(self) -> None:
        self._unbind()
        self._bind()

    def _keys(self) -> Iterator[tuple[KeyBinding, Callable[[], object]]]:
        """Yield each key once: of two commands that share one, the first has it."""
        keys = {str(binding_of(key)): run for key, run in self._borrowed.items()}
        commands = list(self._shortcuts.commands)
        for command in commands:
            if command.group != CATEGORY:
                keys.setdefault(self._shortcuts.key(command.id), command.run)
        for key, run in self._category_keys.items():
            # not every character is a key that napari takes
            with contextlib.suppress(ShortcutError):
                keys.setdefault(str(binding_of(key)), run)
        for command in commands:
            keys.setdefault(self._shortcuts.key(command.id), command.run)
        keys.pop("", None)
        for key, run in keys.items():
            yield coerce_keybinding(key), run

    def _bind(self) -> None:
        keys = list(self._keys())
        self._bound = [_Bound(layer, key, run) for layer in self._layers for key, run in keys]

    def _unbind(self) -> None:
        for bound in self._bound:
            bound.leave()
        self._bound = []


def _is_typing() -> bool:
    """Return whether a text field has the focus: keys that it leaves come to the canvas."""
    widget = QApplication.focusWidget()
    return isinstance(widget, _TEXT_FIELDS) or (
        isinstance(widget, QComboBox) and widget.isEditable()
    )


class _KeyEdit(QKeySequenceEdit):
    """Takes one key; Escape leaves, Backspace clears, Tab goes on."""

    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        # PyQt5 has no such method: there the first of several keys counts
        if hasattr(self, "setMaximumSequenceLength"):
            self.setMaximumSequenceLength(1)

    def show_key(self, key: str) -> None:
        """Show a key; empty: none."""
        with signals_blocked(self):
            self.setKeySequence(QKeyBindingSequence(binding_of(key)) if key else QKeySequence())
        # Qt's own "Press shortcut" would ask for something in each row without a key
        for field in self.findChildren(QLineEdit):
            field.setPlaceholderText("none")

    def keyPressEvent(self, event: Any) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
            self.clearFocus()
        elif event.key() in (Qt.Key.Key_Tab, Qt.Key.Key_Backtab):
            self.left.emit()
            self.focusNextPrevChild(event.key() == Qt.Key.Key_Tab)
        elif event.key() == Qt.Key.Key_Backspace and not event.modifiers():
            self.clear()
            self.editingFinished.emit()
        else:
            super().keyPressEvent(event)


class ShortcutTable(QWidget):
    """Shows the keys, lets a person change them, and says what they clash with.

    Parameters
    ----------
    shortcuts
        The keys.
    """

    def __init__(self, shortcuts: Shortcuts, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shortcuts = shortcuts
        self._edits: dict[str, _KeyEdit] = {}
        self._notes: dict[str, Note] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        about = Note("shortcuts.about")
        about.say(
            "Keys work while Review is open and a layer of ours is selected. "
            "Click a key and press another; Backspace clears it, Esc leaves it."
        )
        layout.addWidget(about)
        layout.addLayout(self._grid())
        self._reset = button(
            "Default keys", "shortcuts.reset", "Give all commands their default keys."
        )
        self._reset.clicked.connect(shortcuts.reset)
        layout.addWidget(self._reset)
        shortcuts.changed.connect(self.refresh)
        self.refresh()

    def _grid(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setColumnStretch(0, 1)
        grid.setVerticalSpacing(2)
        group, row = "", 0
        for command in self._shortcuts.commands:
            if command.group != group:
                group = command.group
                heading = QLabel(f"<b>{group}</b>")
                heading.setContentsMargins(0, 6, 0, 0)
                grid.addWidget(heading, row, 0, 1, 2)
                row += 1
            caption = named(QLabel(command.caption), f"shortcuts.{command.id}", command.tooltip)
            edit = named(_KeyEdit(), f"shortcuts.key.{command.id}", "Click, then press the key.")
            edit.setFixedWidth(110)
            edit.editingFinished.connect(lambda i=command.id: self._on_edited(i))
            edit.left.connect(self.refresh)
            note = Note(f"shortcuts.note.{command.id}", color=AMBER)
            grid.addWidget(caption, row, 0)
            grid.addWidget(edit, row, 1)
            grid.addWidget(note, row + 1, 0, 1, 2)
            self._edits[command.id], self._notes[command.id] = edit, note
            row += 2
        return grid

    def refresh(self) -> None:
        """Show the keys as they are now."""
        clashes = self._shortcuts.clashes()
        for command_id, edit in self._edits.items():
            edit.show_key(self._shortcuts.key(command_id))
            self._notes[command_id].say(clashes.get(command_id, ""))
        self._reset.setEnabled(not self._shortcuts.is_default)

    def _on_edited(self, command_id: str) -> None:
        sequence = self._edits[command_id].keySequence()
        try:
            key = "" if sequence.isEmpty() else key_of(sequence)
            if key != self._shortcuts.key(command_id):
                self._shortcuts.set_key(command_id, key)
        except ShortcutError as error:
            self.refresh()
            self._notes[command_id].say(str(error))
