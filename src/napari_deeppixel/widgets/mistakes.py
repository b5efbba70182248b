"""The panel of label mistakes: each is shown in its image, and set right with one key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.edits import tools
from napari_deeppixel.edits.session import AnnotationSession, Applied, ReadOnlyError
from napari_deeppixel.training.mistake import Mistake, MistakeAnswer, MistakeKind
from napari_deeppixel.training.mistakes_file import MistakeList, load_mistakes
from napari_deeppixel.viewer.camera import show_box
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.viewer.suggestion import Suggestion
from napari_deeppixel.widgets.controls import Note, button
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.dataset_switch import ImageSwitcher
from napari_deeppixel.widgets.mistakes_captions import TITLES, captions_of, extent_of, reason_of
from napari_deeppixel.widgets.mistakes_fixes import (
    annotation_of,
    answer_of,
    fix_of,
    is_rejected,
    is_settled,
    masks_of,
    subject_of,
)
from napari_deeppixel.widgets.mistakes_walk import MistakeWalk
from napari_deeppixel.widgets.review import ReviewTab
from napari_deeppixel.widgets.review_tools import READ_ONLY


class MistakesPanel(QFrame):
    """Goes through label mistakes of the open dataset, inside the Review tab.

    While a list is open, N goes on to the next open mistake and Shift-N back to where one was, also
    to what was answered: it can be answered again. The image of a mistake is opened, what is open
    is saved first; while it is opened, and while another one is open, no mistake is answered. G
    and J mean what they always do, the instance is good or junk: where an object is missing, the
    suggested one. Shift-G takes what the model suggests.

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
        # back at what was set right already, or only passing it
        self._shows_settled = False
        # what is said in the place of a mistake that cannot be shown yet
        self._obstacle = ""
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
        self._there = button("Show it", "mistakes.there", "Open the image of this mistake.")
        self._there.hide()
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
        layout.addWidget(self._there)
        layout.addLayout(row)

    def _connect(self) -> None:
        self._take.clicked.connect(lambda: self._quietly(self.take))
        self._leave.clicked.connect(lambda: self._quietly(self.dismiss))
        self._there.clicked.connect(self.show_current)
        self._close.clicked.connect(self.close_list)
        self.walk.changed.connect(self._show)
        self.walk.failed.connect(self._on_save_failed)
        self._switcher.status_changed.connect(self._on_status)
        self._switcher.opened.connect(self._leave_image)
        self._switcher.failed.connect(self._on_switch_failed)
        self._review.steps.finished.connect(self._arrive)
        # told too when the tab has another image
        self._review.tools.selection_changed.connect(lambda _: self._show())
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
        self._wanted, self._obstacle = None, ""
        self._leave_image()
        self.walk.close()
        self._suggestion.remove()
        if self._review.guide is self:
            self._review.guide = None
        self.hide()

    # -- walking ------------------------------------------------------------------------------

    def go(self, step: int) -> None:
        """Go on to the next open mistake (1) or back (-1), in whatever image."""
        self._shows_settled = step < 0
        self._go(step)

    def _go(self, step: int, *, is_shown: bool = True) -> None:
        self._suggestion.clear()
        self._wanted, self._obstacle = None, ""
        if self._state.dataset is None:
            self._wait("Open the dataset of this list in the Data tab.")
            return
        self.walk.go(step, is_passed=self._is_passed, is_shown=is_shown)
        if self.walk.current is None:
            self._review.tools.select([])
            return
        self._seek()

    def show_current(self) -> None:
        """Come back to the mistake from another image."""
        self._shows_settled = True
        self._seek()

    def _seek(self) -> None:
        """Show the current mistake, in its image."""
        mistake, current = self.walk.current, self._switcher.current
        if mistake is None or self._state.dataset is None:
            return
        self._wanted = mistake
        is_open = current is not None and current.image_id == mistake.file_name
        if is_open and not self._switcher.is_busy:
            self._arrive()
        else:
            self._wait(f"opening {mistake.file_name} …")
            self._switcher.open(self._state.dataset, mistake.file_name)

    def _wait(self, obstacle: str) -> None:
        """Say why the mistake is not shown."""
        self._obstacle = obstacle
        self._show()

    def _is_passed(self, mistake: Mistake) -> bool:
        """Whether a mistake of the image that is open was set right meanwhile."""
        current = self._switcher.current
        if current is None or current.view is None or current.image_id != mistake.file_name:
            return False
        return is_settled(current.view.session, mistake)

    def _on_status(self) -> None:
        self._arrive()
        self._show()

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
            self._wait(f"Choose {current.layer.name} in the Detect tab, then press N.")
            return
        self._wanted, self._obstacle = None, ""
        self._follow(view.session)
        if mistake.is_open and is_settled(view.session, mistake):
            self._keep(MistakeAnswer.FIXED)
            if not self._shows_settled:
                self._go(1, is_shown=False)
                return
        self._present(view, mistake)

    def _present(self, view: InstanceLayers, mistake: Mistake) -> None:
        show_box(self._viewer, view, mistake.plane, extent_of(mistake))
        subject = subject_of(view.session, mistake)
        refs = [] if subject is None else [subject]
        refs += [(mistake.plane, uuid) for uuid in mistake.more_uuids]
        self._review.tools.select([ref for ref in refs if view.session.get(*ref) is not None])
        masks = masks_of(mistake)
        is_there = mistake.kind is MistakeKind.MISSING and subject is not None
        if masks and not is_there and mistake.kind is not MistakeKind.CATEGORY:
            self._suggestion.show(view, mistake.plane, masks)
        self._show()

    def _leave_image(self) -> None:
        self._suggestion.clear()
        self._follow(None)

    def _on_switch_failed(self, message: str) -> None:
        if self._wanted is not None:
            self._wanted = None
            self._wait(f"{message} Press N for the next mistake.")

    # -- answers ------------------------------------------------------------------------------

    def decide(self, state: InstanceState) -> bool:
        """Take a decision that is about the mistake; return whether it was.

        A person may select any other instance meanwhile, and decide about that one. While the
        mistake is not in front, nothing is decided.
        """
        mistake, session = self.walk.current, self._session
        if mistake is None:
            return False
        if not self._is_here or session is None:
            return True
        selected, subject = self._review.tools.selected[:1], subject_of(session, mistake)
        if mistake.kind is MistakeKind.MISSING and subject is None and not selected:
            self._decide_missing(state)
            return True
        if not selected:
            # nothing else is meant
            selected = [subject or (mistake.plane, annotation_of(session, mistake).uuid)]
            self._review.tools.select(selected)
        if subject is None or selected != [subject]:
            return False
        self._review.tools.set_state(state)
        is_right = state is InstanceState.ACCEPTED
        self._keep(answer_of(session, mistake, is_right=is_right), [subject[1]])
        self.go(1)
        return True

    def _decide_missing(self, state: InstanceState) -> None:
        if state is InstanceState.ACCEPTED:
            self.take()
        elif state is InstanceState.REJECTED:
            self.dismiss()
        else:
            self.go(1)

    def take(self) -> bool:
        """Do what the model suggests, and go on; return whether there was something to do."""
        mistake, session = self.walk.current, self._session
        if mistake is None:
            return False
        if not self._is_here or session is None:
            return True
        if session.is_read_only:
            raise ReadOnlyError(READ_ONLY)
        joins, touched = str(uuid4()), []
        if mistake.kind is not MistakeKind.SPURIOUS:
            touched += self._unreject(mistake, session, joins=joins)
        done = bool(touched)
        if mistake.kind is not MistakeKind.MISSING or subject_of(session, mistake) is None:
            view = self._review.tools.view
            action = fix_of(session, mistake, rule=view.overlap_rule)
            nothing = "other instances have all of these pixels"
            if is_settled(session, mistake):
                nothing = "it is so already"
            done |= self._review.tools.do(action, nothing=nothing, joins=joins)
            touched += [change.uuid for change in action.changes]
        if done or is_settled(session, mistake):
            self._keep(MistakeAnswer.FIXED, touched)
            self.go(1)
        return True

    def dismiss(self) -> None:
        """Say that it is no mistake, and go on."""
        mistake, session = self.walk.current, self._session
        if mistake is None or session is None or not self._is_here:
            return
        if mistake.kind is not MistakeKind.MISSING:
            touched = self._unreject(mistake, session)
            is_fixed = is_settled(session, mistake)
            self._keep(MistakeAnswer.FIXED if is_fixed else MistakeAnswer.DISMISSED, touched)
        elif mistake.is_open or (subject := subject_of(session, mistake)) is None:
            self._keep(MistakeAnswer.DISMISSED)
        else:
            # the one that was added, as was answered before
            self._review.tools.do(tools.with_state(session, [subject], InstanceState.REJECTED))
            self._keep(MistakeAnswer.DISMISSED, [subject[1]])
        self.go(1)

    def _unreject(
        self, mistake: Mistake, session: AnnotationSession, *, joins: str = ""
    ) -> list[str]:
        """Accept what a mistake is about if it was rejected; return the uuids of what was."""
        subject = subject_of(session, mistake)
        if subject is None or not is_rejected(session, mistake):
            return []
        action = tools.with_state(session, [subject], InstanceState.ACCEPTED)
        self._review.tools.do(action, joins=joins)
        return [subject[1]]

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
        """Let the answer follow when it is undone, or done again."""
        if applied.kind == "do":
            return
        found, session = self.walk.found, self._session
        if found is None or session is None:
            return
        touched = {change.uuid for change in applied.action.changes}
        for uuid in touched & set(self._answered):
            position, answer = self._answered[uuid]
            is_right = answer is MistakeAnswer.DISMISSED
            mistake = found.mistakes[position]
            self.walk.answer(position, answer_of(session, mistake, is_right=is_right))

    def _quietly(self, do: Callable[[], object]) -> None:
        """Do something; what stands in the way is said."""
        try:
            do()
        except (DeepPixelError, ValueError) as error:
            self._review.panels.status.say(str(error))

    # -- what the person is told --------------------------------------------------------------

    @property
    def _is_here(self) -> bool:
        """Whether the current mistake is in the image that the Review tab has."""
        mistake, current, view = self.walk.current, self._switcher.current, self._review.view
        if mistake is None or current is None or view is None or self._switcher.is_busy:
            return False
        is_open = self._wanted is None and current.image_id == mistake.file_name
        return is_open and view.session is self._session

    def _show(self) -> None:
        found, mistake, is_here = self.walk.found, self.walk.current, self._is_here
        is_away = mistake is not None and self._wanted is None and not is_here
        for each in (self._take, self._leave):
            each.setEnabled(is_here)
        self._take.setHidden(is_away)
        self._there.setVisible(is_away)
        if found is None:
            return
        done = len(found.mistakes) - found.num_open
        seen_to = f"{done:,} of {len(found.mistakes):,} seen to"
        if mistake is None:
            self._title.say(f"Label mistakes: {seen_to}")
            self._reason.say(self._obstacle or "No mistake is left in this list.")
            return
        self._title.say(
            f"Label mistakes: {TITLES[mistake.kind]} in {mistake.file_name} ({seen_to})"
        )
        if is_here:
            self._reason.say(reason_of(mistake, self._session))
        else:
            away = f"This mistake is in {mistake.file_name}: press Show it, or N for the next."
            self._reason.say(self._obstacle or away)
        self._show_captions(mistake)

    def _show_captions(self, mistake: Mistake) -> None:
        take, leave = captions_of(mistake)
        keys = self._review.shortcuts
        is_missing = mistake.kind is MistakeKind.MISSING
        take_key = keys.key("accept" if is_missing else "again")
        self._take.setText(take)
        self._take.setToolTip(
            f"{take}, and go on. Undo takes it back while this image is open; "
            f"{keys.key('previous')} leads back here to answer again.  Key: {take_key}"
        )
        self._leave.setText(leave)
        self._leave.setToolTip(
            f"No mistake: it is not told again, unless {keys.key('previous')} leads back here."
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
        self._suggestion.shut_down()
        self.walk.shut_down()
        if self._review.guide is self:
            self._review.guide = None
