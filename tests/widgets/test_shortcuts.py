"""Keys of commands: real presses in a real window, where keys can be pressed."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QSettings, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.commands import Command, CommandSet
from napari_deeppixel.widgets.key_clashes import ShortcutError
from napari_deeppixel.widgets.review_commands import review_commands
from napari_deeppixel.widgets.shortcuts import KeyBinder, Shortcuts, ShortcutTable

Key, Modifier = Qt.Key, Qt.KeyboardModifier
FILE = "napari-deeppixel/napari-deeppixel.ini"


class Bench:
    """Five commands that note down that they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.commands = CommandSet(
            [
                self.command("next", "N"),
                self.command("previous", "Shift-N"),
                self.command("undo", "Control-Z"),
                self.command("category-1", "1"),
                self.command("fill", ""),
            ]
        )
        self.shortcuts = Shortcuts(self.commands)
        self.binder = KeyBinder(self.shortcuts)

    def command(self, name: str, key: str) -> Command:
        return Command(
            id=name,
            caption=name.capitalize(),
            tooltip=f"Do {name}.",
            run=lambda: self.ran.append(name),
            key=key,
        )


@pytest.fixture
def bench(qapp: QApplication) -> Bench:  # noqa: ARG001
    return Bench()


@pytest.fixture
def layer() -> Labels:
    return Labels(np.zeros((3, 4), np.uint16))


@pytest.fixture
def window(make_napari_viewer: Any, bench: Bench) -> Iterator[Any]:
    """A viewer with the layers of an image and a Labels layer of somebody else."""
    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(np.zeros((3, 4), np.uint8), name="cells")
    foreign = viewer.add_labels(np.zeros((3, 4), np.uint16), name="foreign")
    session = AnnotationSession((3, 4), CategoryTable.from_names("object"))
    view = InstanceLayers(viewer, image, session)
    for _ in view.redraw():
        pass
    ours = view.labels_layers[0]
    viewer.layers.selection.active = ours
    canvas = viewer.window._qt_viewer.canvas.native

    def press(key: Any, modifier: Any = Modifier.NoModifier, on: QWidget = canvas) -> list[str]:
        """Press a key and return what ran."""
        bench.ran.clear()
        QTest.keyClick(on, key, modifier)
        return list(bench.ran)

    yield SimpleNamespace(viewer=viewer, view=view, ours=ours, foreign=foreign, press=press)
    bench.binder.deactivate()


def find(widget: QWidget, name: str) -> Any:
    return widget.findChild(QWidget, name)


def keymaps(view: InstanceLayers) -> list[dict[Any, Any]]:
    return [dict(layer.keymap) for layer in view.layers]


# -- in a window --------------------------------------------------------------------------------


def test_keys_act_on_our_layers_while_active_and_are_naparis_before_and_after(
    window: Any, bench: Bench
) -> None:
    press, ours, foreign = window.press, window.ours, window.foreign
    active = window.viewer.layers.selection
    assert press(Key.Key_N) == []
    bench.binder.activate(window.view.layers)
    assert press(Key.Key_N) == ["next"]
    assert press(Key.Key_N, Modifier.ShiftModifier) == ["previous"]
    assert press(Key.Key_Z, Modifier.ControlModifier) == ["undo"]
    assert press(Key.Key_1) == ["category-1"]
    assert ours.mode == "pan_zoom"
    # a key that no command has is napari's
    assert press(Key.Key_2) == []
    assert ours.mode == "paint"

    active.active = foreign
    assert press(Key.Key_N) == press(Key.Key_1) == []
    assert foreign.mode == "erase"

    active.active = window.view.boxes_layer
    assert press(Key.Key_N) == ["next"]

    active.active = ours
    bench.binder.deactivate()
    assert press(Key.Key_N) == press(Key.Key_1) == []
    assert ours.mode == "erase"


def test_deactivation_brings_back_what_each_layer_had_before(window: Any, bench: Bench) -> None:
    view = window.view
    bench.shortcuts.set_key("next", "M")
    before = keymaps(view)
    # our Labels have undo, redo and new label, boxes have no new label
    assert [len(keymap) for keymap in before] == [3, 2]

    bench.binder.activate(view.layers)
    assert [len(keymap) for keymap in keymaps(view)] == [5, 5]
    assert all(
        a[key] != b[key]
        for a, b in zip(before, keymaps(view), strict=True)
        for key in a
        if str(key) != "Ctrl+Shift+Z"
    )
    bench.binder.activate(view.layers)
    bench.binder.deactivate()
    assert keymaps(view) == before
    bench.binder.deactivate()
    assert keymaps(view) == before
    assert not bench.binder.is_active


def test_every_key_that_the_edit_takes_runs_its_command_in_napari(
    window: Any, bench: Bench, qtbot: Any
) -> None:
    table = ShortcutTable(bench.shortcuts)
    qtbot.addWidget(table)
    bench.binder.activate(window.view.layers)
    for name in ("undo", "category-1"):
        bench.shortcuts.set_key(name, "")
    edit = find(table, "shortcuts.key.fill")
    keys = [
        getattr(Key, f"Key_{name}") for name in (*"ABCXYZ0189", *(f"F{n}" for n in range(1, 13)))
    ]
    keys += [Key.Key_Return, Key.Key_Enter, Key.Key_Delete, Key.Key_Insert, Key.Key_Home]
    keys += [Key.Key_End, Key.Key_PageUp, Key.Key_PageDown, Key.Key_Left, Key.Key_Up, Key.Key_Space]
    keys += [Key.Key_Comma, Key.Key_Semicolon, Key.Key_Minus, Key.Key_Equal, Key.Key_Slash]
    keys += [Key.Key_BracketLeft, Key.Key_Backslash, Key.Key_Apostrophe, Key.Key_QuoteLeft]
    presses = [(key, Modifier.NoModifier) for key in keys]
    for modifier in (Modifier.ShiftModifier, Modifier.AltModifier):
        presses += [(key, modifier) for key in (Key.Key_B, Key.Key_F5, Key.Key_Return)]
    presses += [(Key.Key_B, Modifier.AltModifier | Modifier.ShiftModifier)]
    presses += [(Key.Key_1, Modifier.KeypadModifier), (Key.Key_Enter, Modifier.KeypadModifier)]
    for key, modifier in presses:
        bench.shortcuts.set_key("fill", "")
        QTest.keyClick(edit, key, modifier)
        assert bench.shortcuts.key("fill"), (key, modifier)
        assert window.press(key, modifier) == ["fill"], (key, modifier, bench.shortcuts.key("fill"))


@pytest.mark.parametrize("field", [QLineEdit, QSpinBox])
def test_keys_do_not_act_while_a_text_field_of_the_dock_has_the_focus(
    window: Any, bench: Bench, qtbot: Any, field: type[QWidget]
) -> None:
    dock = QWidget()
    QVBoxLayout(dock).addWidget(field())
    text = dock.findChild(field)
    window.viewer.window.add_dock_widget(dock, name="dock")
    bench.shortcuts.set_key("fill", "F6")
    bench.binder.activate(window.view.layers)
    bench.binder.borrow({"Enter": lambda: bench.ran.append("keep")})

    dock.activateWindow()
    text.setFocus()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is text)
    # the field leaves both to the window, which hands them to the canvas
    assert window.press(Key.Key_F6, on=text) == []
    assert window.press(Key.Key_Return, on=text) == []
    assert window.press(Key.Key_N, on=text) == []
    text.clearFocus()
    assert window.press(Key.Key_F6) == ["fill"]
    assert window.press(Key.Key_Return) == ["keep"]


def test_an_error_for_the_person_is_a_warning_and_any_other_reaches_napari(
    window: Any, bench: Bench, qtbot: Any
) -> None:
    def refuse() -> None:
        raise DeepPixelError("select an instance first")

    bench.binder.borrow({"F2": refuse, "F3": lambda: 1 / 0})
    bench.binder.activate(window.view.layers)
    notification_manager.records.clear()
    window.press(Key.Key_F2)
    assert [(r.message, str(r.severity)) for r in notification_manager.records] == [
        ("select an instance first", "warning")
    ]
    with qtbot.captureExceptions() as raised:
        window.press(Key.Key_F3)
    assert [kind for kind, *_ in raised] == [ZeroDivisionError]


def test_borrowed_keys_go_before_those_of_commands_and_are_given_back(
    window: Any, bench: Bench
) -> None:
    press = window.press
    bench.shortcuts.set_key("fill", "Enter")
    bench.binder.activate(window.view.layers)
    before = keymaps(window.view)
    names = ("keep", "restore")
    keep, restore = (lambda name=name: bench.ran.append(name) for name in names)
    bench.binder.borrow({"Enter": keep, "Escape": restore})
    assert press(Key.Key_Return) == ["keep"]
    assert press(Key.Key_Escape) == ["restore"]
    assert press(Key.Key_N) == ["next"]
    bench.binder.give_back()
    assert press(Key.Key_Return) == ["fill"]
    assert press(Key.Key_Escape) == []
    assert [set(keymap) for keymap in keymaps(window.view)] == [set(keymap) for keymap in before]


def test_a_layer_that_somebody_deleted_does_no_harm(window: Any, bench: Bench) -> None:
    ours, layers = window.ours, window.viewer.layers
    bench.binder.activate(window.view.layers)
    layers.remove(ours)
    bench.shortcuts.set_key("next", "F2")
    layers.selection.active = window.view.boxes_layer
    assert window.press(Key.Key_F2) == ["next"]
    bench.binder.deactivate()
    # no more than what the layer came with
    assert {str(key) for key in ours.keymap} <= {"Ctrl+Z", "Ctrl+Shift+Z", "M"}


@pytest.mark.usefixtures("window")
def test_a_key_of_naparis_menus_is_said_to_stay_theirs(bench: Bench) -> None:
    bench.shortcuts.set_key("next", "Ctrl+O")
    note = "Ctrl+O is “Open File(s)” in napari's menus, and stays it."
    assert bench.shortcuts.clashes()["next"] == note


# -- without a window ---------------------------------------------------------------------------


def test_an_edited_key_is_bound_at_once_and_the_old_one_is_free(
    bench: Bench, layer: Labels
) -> None:
    bench.binder.activate([layer])
    bench.shortcuts.set_key("next", "F2")
    bench.shortcuts.set_key("undo", "")
    assert {str(key) for key in layer.keymap} == {"F2", "Shift+N", "1"}
    bench.shortcuts.reset()
    assert {str(key) for key in layer.keymap} == {"N", "Shift+N", "Ctrl+Z", "1"}


def test_a_key_edited_while_inactive_is_bound_on_no_layer(bench: Bench, layer: Labels) -> None:
    bench.binder.activate([layer])
    bench.binder.deactivate()
    bench.shortcuts.set_key("next", "F2")
    bench.binder.borrow({"Enter": lambda: None})
    assert layer.keymap == {}


def test_an_added_layer_gets_the_keys_once(bench: Bench, layer: Labels) -> None:
    other = Labels(np.zeros((3, 4), np.uint16))
    bench.binder.activate([layer])
    bench.binder.add_layer(other)
    bench.binder.add_layer(other)
    assert len(other.keymap) == 4
    bench.binder.deactivate()
    assert layer.keymap == other.keymap == {}


def test_a_removed_layer_has_its_own_keys_again(bench: Bench, layer: Labels) -> None:
    other = Labels(np.zeros((3, 4), np.uint16))
    bench.binder.activate([layer, other])
    bench.binder.remove_layer(other)
    assert other.keymap == {}
    assert len(layer.keymap) == 4


def test_activation_on_other_layers_leaves_the_first(bench: Bench, layer: Labels) -> None:
    other = Labels(np.zeros((3, 4), np.uint16))
    bench.binder.activate([layer])
    bench.binder.activate([other])
    assert layer.keymap == {}
    assert len(other.keymap) == 4


def test_a_blocked_key_of_a_layer_is_blocked_again_afterwards(bench: Bench, layer: Labels) -> None:
    layer.bind_key("N", ...)
    bench.binder.activate([layer])
    bench.binder.deactivate()
    assert list(layer.keymap.values()) == [...]


def test_of_two_commands_with_one_key_the_first_runs(bench: Bench, layer: Labels) -> None:
    bench.shortcuts.set_key("fill", "N")
    bench.binder.activate([layer])
    layer.keymap[next(key for key in layer.keymap if str(key) == "N")](layer)
    assert bench.ran == ["next"]
    note = "N works for Next, not for Fill."
    clashes = bench.shortcuts.clashes()
    assert clashes["next"] == clashes["fill"] == note


def test_a_key_that_a_gesture_took_since_stays_with_the_gesture(
    bench: Bench, layer: Labels
) -> None:
    bench.binder.borrow({"Escape": lambda: bench.ran.append("restore")})
    bench.binder.activate([layer])

    def cancel(_layer: Labels) -> None:
        bench.ran.append("cancel")

    (escape,) = (key for key in layer.keymap if str(key) == "Escape")
    ours = layer.bind_key("Escape", cancel, overwrite=True)
    bench.binder.give_back()
    assert layer.keymap[escape] is cancel
    bench.binder.deactivate()
    assert layer.keymap == {escape: cancel}
    # the gesture ends late and puts back what it found: that lets go at its first press
    layer.bind_key("Escape", ours, overwrite=True)
    layer.keymap[escape](layer)
    assert layer.keymap == {}
    assert bench.ran == []


# -- settings -----------------------------------------------------------------------------------


def stored_apart(tmp_path: Path) -> QSettings:
    """Return what is in the file, not in the memory of this process."""
    text = (tmp_path / "settings" / FILE).read_text()
    copy = tmp_path / "copy.ini"
    copy.write_text(text)
    return QSettings(str(copy), QSettings.Format.IniFormat)


def test_keys_are_there_again_in_the_next_program(bench: Bench, tmp_path: Path) -> None:
    keys = {"next": ",", "previous": "", "undo": "Ctrl+Alt+;", "category-1": "\\", "fill": "="}
    for name, key in keys.items():
        bench.shortcuts.set_key(name, key)
    QSettings(
        QSettings.Format.IniFormat,
        QSettings.Scope.UserScope,
        "napari-deeppixel",
        "napari-deeppixel",
    ).sync()
    later = Shortcuts(bench.commands, stored_apart(tmp_path))
    assert {name: later.key(name) for name in keys} == keys
    assert not later.is_default

    bench.shortcuts.reset()
    assert bench.shortcuts.is_default
    assert bench.shortcuts.key("next") == "N"


def test_a_default_key_is_the_same_in_another_spelling(bench: Bench) -> None:
    bench.shortcuts.set_key("previous", "F2")
    assert not bench.shortcuts.is_default
    bench.shortcuts.set_key("previous", "shift-n")
    assert bench.shortcuts.is_default
    assert bench.shortcuts.key("previous") == "Shift+N"


@pytest.mark.parametrize(
    "nonsense",
    [
        "gibberish",
        "a, b",
        "Del",
        "Shift+1",
        "Ctrl+K Ctrl+C",
        "Tab",
        "Shift",
        '"   "',
        "é",
        "F13",
        "@Invalid()",
        "@Variant(\\0\\0)",
        "@ByteArray(N)",
        "@Point(1 2)",
        "Ctrl+",
        "NumPad1",
    ],
)
def test_nonsense_in_the_settings_file_leaves_the_default(
    bench: Bench, layer: Labels, tmp_path: Path, nonsense: str
) -> None:
    file = tmp_path / "by_hand.ini"
    file.write_text(f"[shortcuts]\nnext={nonsense}\nfill=F2\n", encoding="utf-8")
    shortcuts = Shortcuts(bench.commands, QSettings(str(file), QSettings.Format.IniFormat))
    assert shortcuts.key("next") == "N"
    assert shortcuts.key("fill") == "F2"
    assert "next" not in shortcuts.clashes()
    KeyBinder(shortcuts).activate([layer])
    assert len(layer.keymap) == 5


def test_a_file_that_is_no_settings_file_leaves_the_defaults(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "broken.ini"
    file.write_bytes(bytes(range(256)) * 4)
    shortcuts = Shortcuts(bench.commands, QSettings(str(file), QSettings.Format.IniFormat))
    assert shortcuts.is_default


@pytest.mark.parametrize("key", ["Shift+1", "Ctrl+Shift+-", "gibberish", "Tab", "Ctrl+K Ctrl+C"])
def test_a_key_that_napari_never_sends_is_refused(bench: Bench, key: str) -> None:
    with pytest.raises(ShortcutError, match="napari does not take"):
        bench.shortcuts.set_key("next", key)
    assert bench.shortcuts.key("next") == "N"


# -- clashes ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("window")
def test_the_default_keys_of_review_clash_with_the_tools_of_labels_alone() -> None:
    shortcuts = Shortcuts(review_commands(MagicMock(), MagicMock()))
    assert shortcuts.clashes() == {
        "category-7": "1 … 7 choose napari's Labels tools; here Category 1 … Category 7."
    }


@pytest.mark.usefixtures("window")
def test_a_key_taken_from_napari_is_told_with_both_meanings(bench: Bench) -> None:
    shortcuts = bench.shortcuts
    shortcuts.set_key("fill", "F")
    shortcuts.set_key("next", "R")
    shortcuts.set_key("previous", "V")
    assert shortcuts.clashes() == {
        "category-1": "1 is napari's “erase mode” (Labels); here Category-1.",
        "fill": "F is napari's “fill mode” (Labels); here Fill.",
        "next": "R is napari's “add rectangle mode” (Shapes); here Next.",
        "previous": "V is napari's “toggle selected visibility” (viewer); here Previous.",
    }


# -- the table ----------------------------------------------------------------------------------


@pytest.fixture
def table(bench: Bench, qtbot: Any) -> ShortcutTable:
    table = ShortcutTable(bench.shortcuts)
    qtbot.addWidget(table)
    table.show()
    return table


def test_the_table_shows_keys_and_takes_one_press(table: ShortcutTable, bench: Bench) -> None:
    edit = find(table, "shortcuts.key.next")
    assert edit.keySequence().toString() == "N"
    assert find(table, "shortcuts.key.fill").keySequence().isEmpty()
    QTest.keyClick(edit, Key.Key_F2)
    assert bench.shortcuts.key("next") == "F2"
    QTest.keyClick(edit, Key.Key_F3)
    assert bench.shortcuts.key("next") == "F3"
    assert edit.keySequence().toString() == "F3"


def test_backspace_clears_a_key_and_default_keys_brings_it_back(
    table: ShortcutTable, bench: Bench
) -> None:
    edit, reset = find(table, "shortcuts.key.next"), find(table, "shortcuts.reset")
    assert not reset.isEnabled()
    QTest.keyClick(edit, Key.Key_Backspace)
    assert bench.shortcuts.key("next") == ""
    assert edit.keySequence().isEmpty()
    reset.click()
    assert bench.shortcuts.key("next") == "N"
    assert edit.keySequence().toString() == "N"
    assert not reset.isEnabled()


def test_escape_leaves_the_key_and_the_edit(table: ShortcutTable, bench: Bench, qtbot: Any) -> None:
    edit = find(table, "shortcuts.key.next")
    table.activateWindow()
    edit.setFocus()
    qtbot.waitUntil(edit.hasFocus)
    QTest.keyPress(edit, Key.Key_Shift)
    QTest.keyRelease(edit, Key.Key_Shift)
    QTest.keyClick(edit, Key.Key_Escape)
    assert not edit.hasFocus()
    assert edit.keySequence().toString() == "N"
    assert bench.shortcuts.is_default


def test_tab_goes_on_to_the_next_edit(table: ShortcutTable, bench: Bench, qtbot: Any) -> None:
    edit = find(table, "shortcuts.key.next")
    table.activateWindow()
    edit.setFocus()
    qtbot.waitUntil(edit.hasFocus)
    QTest.keyClick(edit, Key.Key_Tab)
    assert find(table, "shortcuts.key.previous").hasFocus()
    QTest.keyClick(QApplication.focusWidget(), Key.Key_Backtab, Modifier.ShiftModifier)
    assert edit.hasFocus()
    assert bench.shortcuts.is_default


def test_a_refused_key_is_explained_below_and_the_old_one_stays(
    table: ShortcutTable, bench: Bench
) -> None:
    edit, note = find(table, "shortcuts.key.next"), find(table, "shortcuts.note.next")
    assert not note.isVisible()
    QTest.keyClick(edit, Key.Key_Exclam, Modifier.ShiftModifier)
    assert note.text().startswith("napari does not take Shift+1.")
    assert note.isVisible()
    assert edit.keySequence().toString() == "N"
    assert bench.shortcuts.key("next") == "N"
    QTest.keyClick(edit, Key.Key_F2)
    assert not note.isVisible()


def test_a_letter_that_napari_does_not_know_clears_nothing(
    table: ShortcutTable, bench: Bench
) -> None:
    QTest.keyClick(find(table, "shortcuts.key.next"), Key.Key_Eacute)
    assert bench.shortcuts.key("next") == "N"
    assert find(table, "shortcuts.note.next").text().startswith("napari does not take this key.")


def test_a_clash_is_told_below_both_keys_and_goes_with_it(
    table: ShortcutTable, bench: Bench
) -> None:
    notes = [find(table, f"shortcuts.note.{name}") for name in ("next", "fill")]
    QTest.keyClick(find(table, "shortcuts.key.fill"), Key.Key_N)
    assert [note.text() for note in notes] == ["N works for Next, not for Fill."] * 2
    bench.shortcuts.set_key("fill", "")
    assert not any(note.isVisible() for note in notes)
