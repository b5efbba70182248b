"""Which keys napari takes, and what they do there already."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app_model.backends.qt import qkeysequence2modelkeybinding
from app_model.types import KeyBinding, KeyCode, SimpleKeyBinding
from napari.components import ViewerModel
from napari.layers import Labels, Shapes
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QApplication, QMainWindow, QMenu

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.widgets.commands import Command

# those that have a name longer than one character and reach napari's canvas; Tab moves the focus
_NAMED_KEYS = {
    *("Up", "Down", "Left", "Right", "PageUp", "PageDown", "Home", "End"),
    *("Insert", "Delete", "Backspace", "Escape", "Enter", "Space"),
    *(f"F{n}" for n in range(1, 13)),
}
# who takes a key in napari while a layer of ours is active; the first counts
_OWNERS = ((Labels, "Labels"), (Shapes, "Shapes"), (ViewerModel, "viewer"))


class ShortcutError(DeepPixelError):
    """A key that napari does not take."""


def binding_of(key: str) -> KeyBinding:
    """Return a key as napari compares it.

    Raises
    ------
    ShortcutError
        If no press of a key ever reaches napari so.
    """
    binding: KeyBinding = coerce_keybinding(key)
    if len(binding.parts) != 1 or not _is_sent(binding.part0):
        raise ShortcutError(
            f"napari does not take {key or 'this key'}. Use a letter, a digit or F1 to F12; "
            "Shift goes with letters and F1 to F12 only."
        )
    return binding


def key_of(sequence: QKeySequence) -> str:
    """Return the first key that was pressed in a key edit, in the spelling of `binding_of`.

    Raises
    ------
    ShortcutError
        If napari does not take this key.
    """
    key = str(qkeysequence2modelkeybinding(QKeySequence(sequence[0])))
    # app-model takes each backslash for the second one of some keyboards; napari never does
    return str(binding_of(key.replace(str(KeyCode.IntlBackslash), "\\")))


def _is_sent(part: SimpleKeyBinding) -> bool:
    name = str(part.key)
    if len(name) == 1:
        # Shift makes another character of all but letters, Shift+1 comes as "!", and napari
        # knows none of those
        return name.isalpha() or not part.shift
    return name in _NAMED_KEYS


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """A key that a command takes from napari."""

    command: Command
    key: str
    owner: str
    action: str

    @property
    def is_tool(self) -> bool:
        """Whether the key chooses what the mouse does."""
        return self.action.startswith("activate_") and self.action.endswith("_mode")

    def goes_on(self, before: "_Taken") -> bool:
        """Return whether one note can tell about this one and the one before it."""
        return (
            self.is_tool
            and before.is_tool
            and (self.owner, self.command.group) == (before.owner, before.command.group)
            and f"{before.key}{self.key}" in "123456789"
        )


def _napari_action(key: str) -> tuple[str, str]:
    """Return whose key it is in napari and the name of what it does; empty: nobody's."""
    for kind, owner in _OWNERS:
        action = kind.class_keymap.get(coerce_keybinding(key))
        if action is not None:
            return owner, getattr(action, "__name__", "action")
    return "", ""


def _menu_actions() -> dict[str, str]:
    """Return the captions of what is in napari's menus, by key: Qt asks these first."""
    found = {}
    for window in QApplication.topLevelWidgets():
        menus = window.findChildren(QMenu) if isinstance(window, QMainWindow) else ()
        for action in (action for menu in menus for action in menu.actions()):
            if not action.shortcut().isEmpty():
                caption = action.text().replace("&", "").strip("\u200e.")
                found[str(qkeysequence2modelkeybinding(action.shortcut()))] = caption
    return found


def _runs(taken: Iterable[_Taken]) -> list[list[_Taken]]:
    runs: list[list[_Taken]] = []
    for one in taken:
        if runs and one.goes_on(runs[-1][-1]):
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _told(run: list[_Taken]) -> str:
    first, last = run[0], run[-1]
    if first is not last:
        joint = " … " if len(run) > 2 else " and "
        return (
            f"{first.key}{joint}{last.key} choose napari's {first.owner} tools; "
            f"here {first.command.caption}{joint}{last.command.caption}."
        )
    words = first.action.removeprefix("activate_").removeprefix(f"{first.owner.lower()}_")
    return (
        f"{first.key} is napari's “{words.replace('_', ' ')}” ({first.owner}); "
        f"here {first.command.caption}."
    )


def clashes_of(by_key: Mapping[str, Sequence[Command]]) -> dict[str, str]:
    """Return what else the keys of commands do, by command id; only those that do.

    Where neighbours take neighbouring keys of napari's tools, the last speaks for all.

    Parameters
    ----------
    by_key
        The commands of each key; of several, the first has it.
    """
    of_menus = _menu_actions()
    found: dict[str, str] = {}
    taken = []
    for key, commands in by_key.items():
        first = commands[0]
        owner, action = _napari_action(key)
        if key in of_menus:
            note = f"{key} is “{of_menus[key]}” in napari's menus, and stays it."
            found |= {each.id: note for each in commands}
        elif len(commands) > 1:
            others = " and ".join(each.caption for each in commands[1:])
            note = f"{key} works for {first.caption}, not for {others}."
            found |= {each.id: note for each in commands}
        # ours does on our layers what napari's does on others: undo, redo, delete
        elif action and action.split("_")[0] != first.id:
            taken.append(_Taken(command=first, key=key, owner=owner, action=action))
    return found | {run[-1].command.id: _told(run) for run in _runs(taken)}
