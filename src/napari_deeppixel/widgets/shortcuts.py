"""The keys of commands: what a person chose, what they clash with, and where they work."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from app_model.backends.qt import QKeyBindingSequence, qkeysequence2modelkeybinding
from napari.layers import Layer
from napari.settings import get_settings
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, QSettings, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QGridLayout, QKeySequenceEdit, QLabel, QPushButton, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.widgets.commands import CommandSet
from napari_deeppixel.widgets.controls import AMBER, Note, button, named

_GROUP = "shortcuts"
# actions of other layers than ours
_FOREIGN = ("image", "points", "surface", "tracks", "vectors")


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
        self._settings = settings or QSettings(
            QSettings.Format.IniFormat,
            QSettings.Scope.UserScope,
            "napari-deeppixel",
            "napari-deeppixel",
        )

    def key(self, command_id: str) -> str:
        """Return the key of a command as napari spells it; empty: none."""
        default = self.commands[command_id].key
        key = str(self._settings.value(f"{_GROUP}/{command_id}", default))
        try:
            return key if not key or coerce_keybinding(key) else key
        except ValueError:
            # somebody wrote nonsense into the file
            return default

    def set_key(self, command_id: str, key: str) -> None:
        """Give a command another key; empty: none."""
        if key == self.commands[command_id].key:
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
        by_key: dict[str, list[str]] = {}
        for command in self.commands:
            key = self.key(command.id)
            if key:
                by_key.setdefault(_spelled(key), []).append(command.id)
        of_napari = _napari_actions()
        found = {}
        for key, ids in by_key.items():
            for command_id in ids:
                others = [self.commands[other].caption for other in ids if other != command_id]
                if others:
                    found[command_id] = f"also {', '.join(others)}: only one of them works"
                elif key in of_napari:
                    found[command_id] = f"instead of napari's {', '.join(of_napari[key])}"
        return found


def _spelled(key: str) -> str:
    return str(coerce_keybinding(key))


def _napari_actions() -> dict[str, list[str]]:
    """Return what napari's keys do in Labels and Shapes layers and in the viewer."""
    found: dict[str, list[str]] = {}
    for action, keys in get_settings().shortcuts.shortcuts.items():
        name = action.removeprefix("napari:").replace("_", " ")
        if not any(word in name for word in _FOREIGN):
            for key in keys:
                found.setdefault(str(key), []).append(name)
    return found


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
        self._before: list[tuple[Layer, str, Any]] = []
        self._borrowed: Mapping[str, Callable[[], object]] = {}
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

    def deactivate(self) -> None:
        """Put back what the keys did before."""
        self._unbind()
        self._layers = []

    def borrow(self, keys: Mapping[str, Callable[[], object]]) -> None:
        """Give some more keys a meaning until `give_back`."""
        self._borrowed = keys
        self._bind_again()

    def give_back(self) -> None:
        """Put back what was borrowed."""
        self._borrowed = {}
        self._bind_again()

    def _bind_again(self) -> None:
        self._unbind()
        self._bind()

    def _bind(self) -> None:
        bound = {
            self._shortcuts.key(command.id): command.run
            for command in reversed(list(self._shortcuts.commands))
        }
        for layer in self._layers:
            for key, run in (bound | dict(self._borrowed)).items():
                if not key:
                    continue
                before = layer.keymap.get(coerce_keybinding(key))
                layer.bind_key(key, _runner(run), overwrite=True)
                self._before.append((layer, key, before))

    def _unbind(self) -> None:
        for layer, key, before in reversed(self._before):
            layer.bind_key(key, before, overwrite=True)
        self._before = []


def _runner(run: Callable[[], object]) -> Callable[[Layer], None]:
    def on_key(_layer: Layer) -> None:
        try:
            run()
        except DeepPixelError as error:
            show_warning(str(error))

    return on_key


class _KeyEdit(QKeySequenceEdit):
    """Takes one key; Escape leaves, Backspace clears."""

    def __init__(self) -> None:
        super().__init__()
        if hasattr(self, "setMaximumSequenceLength"):
            self.setMaximumSequenceLength(1)

    def keyPressEvent(self, event: Any) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.clearFocus()
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
        about.say("They work on our layers while Review is open. Click a key to change it.")
        layout.addWidget(about)
        layout.addLayout(self._grid())
        reset: QPushButton = button(
            "Default keys", "shortcuts.reset", "Give all commands their default keys."
        )
        reset.clicked.connect(shortcuts.reset)
        layout.addWidget(reset)
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
                grid.addWidget(heading, row, 0, 1, 2)
                row += 1
            caption = named(QLabel(command.caption), f"shortcuts.{command.id}", command.tooltip)
            edit = named(_KeyEdit(), f"shortcuts.key.{command.id}", "Click, then press the key.")
            edit.setFixedWidth(110)
            edit.editingFinished.connect(lambda i=command.id: self._on_edited(i))
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
            key = self._shortcuts.key(command_id)
            with signals_blocked(edit):
                edit.setKeySequence(
                    QKeyBindingSequence(coerce_keybinding(key)) if key else QKeySequence()
                )
            self._notes[command_id].say(clashes.get(command_id, ""))

    def _on_edited(self, command_id: str) -> None:
        sequence = self._edits[command_id].keySequence()
        key = "" if sequence.isEmpty() else str(qkeysequence2modelkeybinding(sequence))
        # napari writes Shift-N where app-model writes Shift+N; both are understood
        if key != (
            _spelled(self._shortcuts.key(command_id)) if self._shortcuts.key(command_id) else ""
        ):
            self._shortcuts.set_key(command_id, key)
