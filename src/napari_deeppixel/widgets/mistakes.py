"""The panel of label mistakes: each is shown in its image, and set right with one key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.edits.session import DONE_STATES, AnnotationSession, Applied, ReadOnlyError
from napari_deeppixel.training.mistake import Mistake, MistakeAnswer, MistakeKind
from napari_deeppixel.training.mistakes_file import MistakeList, load_mistakes
from napari_deeppixel.viewer.camera import show_box
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.viewer.suggestion import Suggestion
from napari_deeppixel.widgets.controls import Note, button
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.dataset_switch import ImageSwitcher
from napari_deeppixel.widgets.mistakes_fixes import fix_of, is_settled
from napari_deeppixel.widgets.mistakes_walk import MistakeWalk
from napari_deeppixel.widgets.review import ReviewTab
from napari_deeppixel.widgets.review_tools import READ_ONLY

_OPEN = MistakeAnswer.OPEN
_TITLES = {
    MistakeKind.MISSING: "missing object",
    MistakeKind.SPURIOUS: "nothing there",
    MistakeKind.OUTLINE: "bad outline",
    MistakeKind.CATEGORY: "wrong category",
}


class MistakesPanel(QFrame):
    """Goes through label mistakes of the open dataset, inside the Review tab.

    While a list is open, N and Shift-N go through it; the image of a mistake is opened, what is
    open is saved first. G and J mean what they always do, the instance is good or junk: where an
    object is missing, the suggested one. Shift-G takes what the model suggests.

    Parameters
    ----------
    viewer
        The napari viewer.
    review
        Where the panel is shown and instances are corrected.
    state
        Which dataset is open.
    switcher
        Opens its images.
    open_dataset
        Opens the dataset in a folder.

    Signals
    -------
    review_wanted
        A list was opened: the Review tab is to be shown.
    """

    review_wanted = Signal()

    def __init__(
        self,
        viewer: Any,
        review: ReviewTab,
        *,
        state: DatasetState,
        switcher: ImageSwitcher,
        open_dataset: Callable[[Path], object],
    ) -> None:
        super().__init__()
        self.setObjectName("mistakes")
        self._viewer, self._review, self._state = viewer, review, state
        self._switcher, self._open_dataset = switcher, open_dataset
        self.walk = MistakeWalk(self)
        self._suggestion = Suggestion(viewer)
        # which mistake is to be shown as soon as its image is there
        self._wanted: Mistake | None = None
        self._last_step = 1
        # a list that waits for its dataset
        self._waiting: tuple[Path, MistakeList] | None = None
        self._session: AnnotationSession | None = None
        # uuid of what an answer touched → the mistake's place in the list, and the answer
        self._answered: dict[str, tuple[int, MistakeAnswer]] = {}
        self._build()
        self._connect()
        review.show_guide_panel(self)
        self.hide()

    def _build(self) -> None:
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self._title = Note("mistakes.title")
        self._reason = Note("mistakes.reason", lines=3)
        self._take = button("Take", "mistakes.take", "")
        self._leave = button("Leave", "mistakes.leave", "")
        self._close = button("Close list", "mistakes.close", "Go through the usual queue again.")
        # a category may have a long name; its tooltip tells it in full
        self._take.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        row = QHBoxLayout()
        row.addWidget(self._leave)
        row.addWidget(self._close)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self._title)
        layout.addWidget(self._reason)
        layout.addWidget(self._take)
        layout.addLayout(row)

    def _connect(self) -> None:
        self._take.clicked.connect(lambda: self._quietly(self.take))
        self._leave.clicked.connect(lambda: self._quietly(self.dismiss))
        self._close.clicked.connect(self.close_list)
        self.walk.changed.connect(self._show)
        self.walk.failed.connect(self._on_save_failed)
        self._switcher.status_changed.connect(self._arrive)
        self._switcher.opened.connect(self._leave_image)
        self._switcher.failed.connect(self._on_switch_failed)
        self._review.steps.finished.connect(self._arrive)
        self._state.dataset_changed.connect(self._on_dataset)

    # -- which list ---------------------------------------------------------------------------

    def open_mistakes(self, path: Path) -> None:
        """Go through the list in a file; its dataset is opened first if need be.

        Raises
        ------
        AnnotationError
            If the file cannot be read.
        """
        found = load_mistakes(path)
        folder, dataset = Path(found.dataset), self._state.dataset
        is_open = dataset is not None and dataset.path == folder
        if not is_open and Dataset.is_dataset(folder):
            self._waiting = (path, found)
            self._open_dataset(folder)
            return
        self._begin(path, found)

    def choose_list(self) -> None:
        """Ask for a file, and go through its list."""
        dataset = self._state.dataset
        folder = "" if dataset is None else str(dataset.path)
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a list of label mistakes", folder, "Label mistakes (*.json)"
        )
        if path:
            self.open_mistakes(Path(path))

    def _on_dataset(self) -> None:
        waiting, self._waiting = self._waiting, None
        dataset = self._state.dataset
        if waiting is not None and dataset is not None:
            self._begin(*waiting)
        elif self.walk.found is not None:
            self.close_list()

    def _begin(self, path: Path, found: MistakeList) -> None:
        self._leave_image()
        self._answered.clear()
        self.walk.open(path, found)
        self._review.guide = self
        self.show()
        self.review_wanted.emit()
        self.go(1)

    def close_list(self) -> None:
        """Go through the usual queue again."""
        self._wanted = None
        self._leave_image()
        self.walk.close()
        self._suggestion.remove()
        if self._review.guide is self:
            self._review.guide = None
        self.hide()

    # -- walking ------------------------------------------------------------------------------

    def go(self, step: int) -> None:
        """Go to the next mistake (1) or the one before (-1), in whatever image."""
        self._suggestion.clear()
        self._wanted, self._last_step = None, step
        if self._state.dataset is None:
            self._reason.say("Open the dataset of this list in the Data tab.")
            return
        mistake = self.walk.go(step, is_passed=self._is_passed)
        if mistake is None:
            self._review.tools.select([])
            return
        self._wanted = mistake
        current = self._switcher.current
        if current is None or current.image_id != mistake.file_name:
            self._reason.say(f"opening {mistake.file_name} …")
            self._switcher.open(self._state.dataset, mistake.file_name)
        else:
            self._arrive()

    def _is_passed(self, mistake: Mistake) -> bool:
        """Whether a mistake of the image that is open was set right meanwhile."""
        current = self._switcher.current
        if current is None or current.view is None or current.image_id != mistake.file_name:
            return False
        return is_settled(current.view.session, mistake)

    def _arrive(self) -> None:
        """Show the wanted mistake, once its image is there and drawn."""
        mistake, current = self._wanted, self._switcher.current
        is_busy = self._switcher.is_busy or self._review.steps.is_running
        if mistake is None or is_busy or current is None or current.view is None:
            return
        if current.image_id != mistake.file_name:
            return
        view = current.view
        if self._review.view is not view and view.labels_layers:
            # the Review tab follows the layer that is active
            self._viewer.layers.selection.active = view.labels_layers[0]
        if self._review.view is not view:
            self._reason.say(f"Choose {current.layer.name} in the Detect tab, then press N.")
            return
        self._wanted = None
        self._follow(view.session)
        if is_settled(view.session, mistake):
            self._keep(MistakeAnswer.FIXED)
            self.go(self._last_step)
            return
        self._present(view, mistake)

    def _present(self, view: InstanceLayers, mistake: Mistake) -> None:
        tools, tip = self._review.tools, _extent(mistake)
        show_box(self._viewer, view, mistake.plane, tip)
        refs = [(mistake.plane, uuid) for uuid in (mistake.uuid, *mistake.more_uuids) if uuid]
        tools.select([ref for ref in refs if view.session.get(*ref) is not None])
        masks = [mask for mask in (mistake.mask, *mistake.more_masks) if mask is not None]
        if masks and mistake.kind is not MistakeKind.CATEGORY:
            self._suggestion.show(view, mistake.plane, masks)
        self._show()

    def _leave_image(self) -> None:
        self._suggestion.clear()
        self._follow(None)

    def _on_switch_failed(self, message: str) -> None:
        if self._wanted is not None:
            self._wanted = None
            self._reason.say(f"{message} Press N for the next mistake.")

    # -- answers ------------------------------------------------------------------------------

    def decide(self, state: InstanceState) -> bool:
        """Take a decision that is about the mistake; return whether it was.

        A person may select any other instance meanwhile, and decide about that one.
        """
        mistake = self.walk.current
        if mistake is None or self._session is None:
            return False
        selected = self._review.tools.selected
        if mistake.kind is MistakeKind.MISSING:
            if selected:
                return False
            if state is InstanceState.ACCEPTED:
                self.take()
            elif state is InstanceState.REJECTED:
                self.dismiss()
            else:
                self.go(1)
            return True
        if not selected or selected[0] != (mistake.plane, mistake.uuid):
            return False
        self._review.tools.set_state(state)
        if state is InstanceState.REJECTED:
            self._keep(MistakeAnswer.FIXED, [mistake.uuid])
        elif state is InstanceState.ACCEPTED:
            self._keep(MistakeAnswer.DISMISSED, [mistake.uuid])
        self.go(1)
        return True

    def take(self) -> bool:
        """Do what the model suggests, and go on; return whether there was something to do."""
        mistake, session = self.walk.current, self._session
        if mistake is None or session is None:
            return False
        if session.is_read_only:
            raise ReadOnlyError(READ_ONLY)
        view = self._review.tools.view
        action = fix_of(session, mistake, rule=view.overlap_rule)
        if self._review.tools.do(action, nothing="other instances have all of these pixels"):
            self._keep(MistakeAnswer.FIXED, [change.uuid for change in action.changes])
            self.go(1)
        return True

    def dismiss(self) -> None:
        """Say that it is no mistake, and go on."""
        if self.walk.current is not None:
            self._keep(MistakeAnswer.DISMISSED)
            self.go(1)

    def _keep(self, answer: MistakeAnswer, uuids: list[str] | None = None) -> None:
        position = self.walk.position
        if position is not None:
            self._answered |= dict.fromkeys(uuids or [], (position, answer))
            self.walk.answer(position, answer)

    def _follow(self, session: AnnotationSession | None) -> None:
        if session is self._session:
            return
        if self._session is not None:
            self._session.changed.disconnect(self._on_changed, missing_ok=True)
        self._session = session
        if session is not None:
            session.changed.connect(self._on_changed)

    def _on_changed(self, applied: Applied) -> None:
        """Open a mistake again when its answer is undone."""
        if applied.kind == "do":
            return
        touched = {change.uuid for change in applied.action.changes}
        for uuid in touched & set(self._answered):
            position, answer = self._answered[uuid]
            self.walk.answer(position, answer if self._holds(position, answer) else _OPEN)

    def _holds(self, position: int, answer: MistakeAnswer) -> bool:
        """Whether the open image is as an answer said."""
        if self.walk.found is None or self._session is None:
            return True
        mistake = self.walk.found.mistakes[position]
        if answer is MistakeAnswer.FIXED:
            return is_settled(self._session, mistake)
        instance = self._session.get(mistake.plane, mistake.uuid)
        return instance is not None and instance.state in DONE_STATES

    def _quietly(self, do: Callable[[], object]) -> None:
        """Do something; what stands in the way is said."""
        try:
            do()
        except (DeepPixelError, ValueError) as error:
            self._review.panels.status.say(str(error))

    # -- what the person is told --------------------------------------------------------------

    def _show(self) -> None:
        found, mistake = self.walk.found, self.walk.current
        is_there = mistake is not None and mistake.is_open
        for each in (self._take, self._leave):
            each.setEnabled(is_there)
        if found is None:
            return
        done = len(found.mistakes) - found.num_open
        if mistake is None:
            self._title.say(f"Label mistakes: {done:,} of {len(found.mistakes):,} seen to")
            self._reason.say("No mistake is left in this list.")
            return
        self._title.say(
            f"Label mistakes: {_TITLES[mistake.kind]} in {mistake.file_name} "
            f"({done:,} of {len(found.mistakes):,} seen to)"
        )
        self._reason.say(f"{mistake.reason[0].upper()}{mistake.reason[1:]}.")
        take, leave = _captions(mistake)
        keys = self._review.shortcuts
        is_missing = mistake.kind is MistakeKind.MISSING
        take_key = keys.key("accept" if is_missing else "again")
        self._take.setText(take)
        self._take.setToolTip(f"{take}: one step to undo.  Key: {take_key}")
        self._leave.setText(leave)
        self._leave.setToolTip(
            "No mistake: it is not told again."
            f"  Key: {keys.key('reject' if is_missing else 'accept')}"
        )

    def _on_save_failed(self, error: BaseException) -> None:
        self._review.panels.status.say(f"The list of label mistakes is not saved: {error}")
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def shut_down(self) -> None:
        """Save the answers, and let go of the viewer."""
        self._wanted = None
        self._follow(None)
        self._suggestion.remove()
        self.walk.shut_down()
        if self._review.guide is self:
            self._review.guide = None


def _extent(mistake: Mistake) -> tuple[int, int, int, int]:
    """Return the box round all that a mistake is about."""
    masks = [mask for mask in (mistake.mask, *mistake.more_masks) if mask is not None]
    boxes = [mistake.box_xyxy, *(mask.box_xyxy for mask in masks)]
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _captions(mistake: Mistake) -> tuple[str, str]:
    """Return what the two buttons say: take what the model suggests, leave what is there."""
    match mistake.kind:
        case MistakeKind.MISSING:
            return f"Add the {mistake.category}", "No object"
        case MistakeKind.SPURIOUS:
            return "Reject it", "It is right"
        case MistakeKind.CATEGORY:
            return f"Make it {mistake.category}", "It is right"
    if mistake.more_masks:
        return f"Make it {len(mistake.more_masks) + 1} objects", "It is right"
    if mistake.more_uuids:
        return "Make them one", "They are right"
    return "Take the model's outline", "It is right"
