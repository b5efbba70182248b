"""What the buttons and keys of the Review tab do to the selected instances."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QObject, Signal

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.geometry import outline_yx_to_xy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.edits import planes_tools, region_tools, reshape_tools, tools
from napari_deeppixel.edits.action import Action
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.session import AnnotationSession, ReadOnlyError
from napari_deeppixel.engine.base import CANDIDATE_SCORE
from napari_deeppixel.viewer.gestures import Drawn, Gestures
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.job import DetectJob
from napari_deeppixel.widgets.prompts import Answer, Prompt, PromptRunner
from napari_deeppixel.widgets.worker import BackgroundTask

InstanceRef = tuple[PlaneIndex, str]
MakeAction = Callable[[AnnotationSession, Sequence[InstanceRef]], Action]

READ_ONLY = (
    "this image is open for editing in another window: close it there, or choose Edit here in the "
    "Review tab"
)

# two masks of one object (Lin et al. 2014, COCO: IoU 0.5 is a match)
_SAME_OBJECT_IOU = 0.5
# growing one takes up to 13 ms, measured on 60 px discs
_MAX_AT_ONCE = 3


class NothingSelectedError(DeepPixelError):
    """A tool needs an instance to work on."""


class NotReadyError(DeepPixelError):
    """The model cannot be asked with the settings as they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ask:
    """What a prompt is for; `uuid` None: a new instance. Asks that join are one step to undo."""

    session: AnnotationSession
    uuid: str | None
    joins: str = ""


class ReviewTools(QObject):
    """Works on the selected instances of the image under review.

    Parameters
    ----------
    viewer
        The napari viewer.
    current_view
        Gives the layers under review; None: there are none.
    make_job
        Gives image, model and settings for prompts; raises if the form is wrong.
    prompts
        Asks the model.

    Signals
    -------
    selection_changed
        The selected instances, plane index and uuid each.
    said
        Something for the status line.
    pending_changed
        Whether a new mask waits to be kept or restored.
    failed
        The exception that stopped a tool at work in a thread.
    """

    selection_changed = Signal(object)
    said = Signal(str)
    pending_changed = Signal(bool)
    failed = Signal(object)

    def __init__(
        self,
        viewer: Any,
        current_view: Callable[[], InstanceLayers | None],
        make_job: Callable[[], DetectJob],
        prompts: PromptRunner,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._current_view, self._make_job = viewer, current_view, make_job
        self._prompts = prompts
        self.gestures = Gestures(viewer)
        self._selected: list[InstanceRef] = []
        self._other_plane: InstanceRef | None = None
        # the step whose result a person may still refuse with Escape
        self._pending: Action | None = None
        self._on_made: Callable[[Action], None] = lambda _: None
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._take_action)
        self._task.failed.connect(self.failed)
        prompts.answered.connect(self._on_answered)

    # -- selection ----------------------------------------------------------------------------

    @property
    def view(self) -> InstanceLayers:
        """The layers under review.

        Raises
        ------
        NothingSelectedError
            If there are none.
        """
        view = self._current_view()
        if view is None:
            raise NothingSelectedError(
                "there are no instances yet: press Run in the Detect tab, or Annotate by hand"
            )
        return view

    @property
    def selected(self) -> list[InstanceRef]:
        """The selected instances that are still there."""
        view = self._current_view()
        if view is None:
            return []
        return [ref for ref in self._selected if view.session.get(*ref) is not None]

    def select(self, refs: Sequence[InstanceRef]) -> None:
        """Select instances; the first is the one that painting goes to."""
        before = self.selected
        self._selected = list(refs)
        if before and refs and before[0][0] != refs[0][0]:
            self._other_plane = before[0]
        view = self._current_view()
        if refs and view is not None:
            # the layer would tell of the first alone
            with view.selection_changed.blocked():
                view.select(*refs[0])
        self.selection_changed.emit(self.selected)

    def _chosen(self) -> list[InstanceRef]:
        chosen = self.selected
        if not chosen:
            raise NothingSelectedError(
                "select an instance first: click it, or choose rows in the table"
            )
        return chosen

    def _editable_session(self) -> AnnotationSession:
        """Return the session; raise before anything is begun that it would refuse."""
        session = self.view.session
        if session.is_read_only:
            raise ReadOnlyError(READ_ONLY)
        return session

    # -- doing --------------------------------------------------------------------------------

    def do(
        self, action: Action, *, nothing: str = "that changes nothing here", joins: str = ""
    ) -> bool:
        """Do an action, and tell what was done; return whether it changed anything.

        Actions with the same `joins` that follow each other are one step to undo.
        """
        self.keep()
        view = self.view
        if not view.session.apply(action, joins=joins):
            self.said.emit(f"Nothing to do: {nothing}.")
            return False
        self.said.emit(action.name)
        return True

    def set_state(self, state: InstanceState) -> None:
        """Set the state of the selected instances."""
        action = tools.with_state(self.view.session, self._chosen(), state)
        self.do(action, nothing="it is so already")

    def set_category(self, name: str) -> None:
        """Give the selected instances a category, a new one if the name is not known."""
        session = self._editable_session()
        chosen = self._chosen()
        # of a name that is known, the category that is there
        (category_id,) = session.join_categories(CategoryTable.from_names(name)).values()
        self.do(tools.with_category(session, chosen, category_id))

    def set_nth_category(self, position: int) -> None:
        """Give the selected instances the category at a position (0 is the first)."""
        categories = self.view.session.categories.categories
        if position >= len(categories):
            known = ", ".join(category.name for category in categories)
            self.said.emit(f"No category {position + 1}: there is {known}. Type one in the card.")
            return
        self.set_category(categories[position].name)

    def delete(self) -> None:
        """Delete the selected instances."""
        self.do(tools.deleted(self.view.session, self._chosen()))

    def unite(self) -> None:
        """Make the selected instances of a plane one."""
        chosen = self._chosen()
        action = reshape_tools.united(self.view.session, chosen)
        self.do(action, nothing="select two or more instances of one plane")
        self.select(self.selected)

    def fill(self) -> None:
        """Fill holes."""
        self._reshape(reshape_tools.filled, nothing="no holes")

    def remove_specks(self) -> None:
        """Remove small parts."""
        self._reshape(reshape_tools.without_specks, nothing="no specks")

    def smooth(self) -> None:
        """Smooth outlines."""
        self._reshape(partial(reshape_tools.smoothed, rule=self.view.overlap_rule))

    def grow(self) -> None:
        """Grow by one pixel."""
        self._reshape(partial(reshape_tools.grown, rule=self.view.overlap_rule))

    def shrink(self) -> None:
        """Shrink by one pixel."""
        self._reshape(reshape_tools.shrunk, nothing="it would vanish: delete it instead")

    def _reshape(self, make: MakeAction, *, nothing: str = "that changes nothing here") -> None:
        """Reshape the selected instances; many of them in a thread, on a copy of the session."""
        session, chosen = self.view.session, self._chosen()
        if len(chosen) <= _MAX_AT_ONCE:
            self.do(make(session, chosen), nothing=nothing)
            return
        if self._task.is_running:
            self.said.emit("the last tool is still at work")
            return
        snapshot, top = session.snapshot(), session.history.top
        self._on_made = lambda action: self._take_made(session, action, top, nothing)
        self.said.emit(f"working on {len(chosen):,} instances …")
        self._task.start(
            lambda _c, _r: iter([make(AnnotationSession.from_snapshot(snapshot), chosen)])
        )

    def _take_action(self, action: Action) -> None:
        self._on_made(action)

    def _take_made(
        self, session: AnnotationSession, action: Action, top: Action | None, nothing: str
    ) -> None:
        view = self._current_view()
        if view is None or view.session is not session:
            return
        if session.history.top is not top:
            self.said.emit("the instances changed meanwhile: nothing was done, try again")
            return
        self.do(action, nothing=nothing)

    def undo(self) -> None:
        """Take the last step back."""
        self._set_pending(None)
        name = self.view.undo()
        self.said.emit(f"Undone: {name}{self._seen()}" if name else "Nothing to undo")

    def redo(self) -> None:
        """Do the step again that was taken back last."""
        name = self.view.redo()
        self.said.emit(f"Done again: {name}{self._seen()}" if name else "Nothing to do again")

    def _seen(self) -> str:
        """Go to the plane where a step was taken back or done again; return what to say of it."""
        view = self.view
        planes = view.last_planes
        if not planes or view.planes.current() in planes:
            return ""
        view.planes.show(planes[0])
        others = f" and {len(planes) - 1} more" if len(planes) > 1 else ""
        return f", on plane {', '.join(map(str, planes[0]))}{others}"

    # -- planes -------------------------------------------------------------------------------

    def copy_to_next(self) -> None:
        """Copy the selected instances of this plane to the next one, and go there."""
        view, chosen = self.view, self._chosen()
        index = chosen[0][0]
        target = self._next_plane(view, index)
        known = set(view.session.visible(target).uuids)
        action = planes_tools.copied_to(
            view.session, [ref for ref in chosen if ref[0] == index], target
        )
        if self.do(action):
            view.planes.show(target)
            new = [(c.index, c.uuid) for c in action.changes if c.uuid not in known and c.after]
            self.select(new)

    def _next_plane(self, view: InstanceLayers, index: PlaneIndex) -> PlaneIndex:
        shape = view.planes.lead_shape
        axes = [axis for axis, size in enumerate(shape) if size > 1]
        if not axes:
            raise NothingSelectedError("this image has one plane only")
        axis = axes[-1]
        if index[axis] + 1 >= shape[axis]:
            raise NothingSelectedError("this is the last plane")
        return (*index[:axis], index[axis] + 1, *index[axis + 1 :])

    def interpolate(self) -> None:
        """Draw an instance on all planes between two."""
        view, chosen = self.view, self._chosen()
        ends = list(chosen[:2])
        if len(chosen) == 1 and self._other_plane is not None:
            ends.append(self._other_plane)
        if len(ends) != 2:
            raise NothingSelectedError(
                "select the same object on two planes: click it on one, go to the other plane and "
                "click it there"
            )
        action = planes_tools.interpolated(view.session, ends[0], ends[1], rule=view.overlap_rule)
        self.do(action, nothing="no planes lie between")

    # -- drawing ------------------------------------------------------------------------------

    def _target(self) -> Labels:
        view = self.view
        if not view.labels_layers:
            # somebody deleted it: it comes back from the session
            for _ in view.redraw():
                pass
        return view.labels_layers[0]

    def _category_id(self) -> int:
        view = self.view
        return view.drawn_category_id or view.session.categories.categories[0].id

    def _told(self, do: Callable[[Drawn], None]) -> Callable[[Drawn], None]:
        """Return what a drawing is given to; it tells the person why it was in vain."""

        def take(drawn: Drawn) -> None:
            try:
                do(drawn)
            except (DeepPixelError, ValueError) as error:
                self.said.emit(str(error))

        return take

    def draw_lasso(self) -> None:
        """Trace the outline of a new instance."""
        self.gestures.lasso(
            self._target(),
            self._told(self._on_lasso),
            name="lasso",
            hint="Lasso: press and trace the outline of a new object. Esc cancels.",
        )

    def _on_lasso(self, drawn: Drawn) -> None:
        view = self.view
        action = reshape_tools.lasso(
            view.session,
            self._plane(drawn),
            drawn.points_yx,
            category_id=self._category_id(),
            rule=view.overlap_rule,
        )
        if self.do(action, nothing="the outline holds no pixel of the image"):
            self._select_new(action)

    def draw_split(self) -> None:
        """Draw a line that splits the selected instances, or those that it crosses."""
        self.gestures.line(
            self._target(),
            self._told(self._on_split_line),
            name="split",
            hint="Split: draw a line across the object. Esc cancels.",
        )

    def _on_split_line(self, drawn: Drawn) -> None:
        index = self._plane(drawn)
        refs = [ref for ref in self.selected if ref[0] == index]
        session = self.view.session
        action = reshape_tools.split_along(session, refs, drawn.points_yx, index=index)
        if not action and refs:
            # the person aimed at what is not selected
            action = reshape_tools.split_along(session, [], drawn.points_yx, index=index)
        if self.do(action, nothing="the line crosses no object from side to side"):
            self._select_parts(action)

    def draw_split_points(self) -> None:
        """Click a point in each part of the selected instance."""
        (ref, *_) = self._chosen()
        self.gestures.points(
            self._target(),
            self._told(lambda drawn: self._on_split_points(ref, drawn)),
            name="split-points",
            hint="Split: click once in each part, then press Enter. Esc cancels.",
        )

    def _on_split_points(self, ref: InstanceRef, drawn: Drawn) -> None:
        action = reshape_tools.split_at(self.view.session, ref, drawn.points_yx)
        if self.do(action, nothing="the points lie in one part"):
            self._select_parts(action)

    def draw_delete_region(self) -> None:
        """Trace a region whose instances are deleted."""
        self.gestures.lasso(
            self._target(),
            self._told(self._on_delete_region),
            name="delete-region",
            hint="Delete: trace round the objects to delete. Esc cancels.",
        )

    def _on_delete_region(self, drawn: Drawn) -> None:
        action = tools.deleted_in(self.view.session, self._plane(drawn), drawn.points_yx)
        self.do(action, nothing="no object lies inside")

    def draw_complete_region(self) -> None:
        """Draw a rectangle in which every object has been reviewed."""
        self.gestures.rectangle(
            self._target(),
            self._told(self._on_complete_region),
            name="complete-region",
            hint="Complete region: drag a rectangle in which every object is right. Esc cancels.",
        )

    def _on_complete_region(self, drawn: Drawn) -> None:
        (y1, x1), (y2, x2) = drawn.points_yx
        outline = np.array([(y1, x1), (y1, x2), (y2, x2), (y2, x1)])
        index = self._plane(drawn)
        session = self.view.session
        left = region_tools.unreviewed_in(session, outline_yx_to_xy(outline), index)
        if self.do(region_tools.region_completed(session, index, outline)) and left:
            self.said.emit(f"Region complete; {left:,} instances in it are still unreviewed.")

    def complete_plane(self) -> None:
        """Say that every object of this plane has been reviewed."""
        view = self.view
        index = view.planes.current()
        if index is not None:
            action = region_tools.plane_completed(view.session, index)
            self.do(action, nothing="it is complete already")

    def remove_regions(self) -> None:
        """Take the complete regions of this plane back."""
        view = self.view
        index = view.planes.current()
        if index is not None:
            view.session.set_regions(index, (), name="nothing is complete")

    def _plane(self, drawn: Drawn) -> PlaneIndex:
        return self.view.planes.session_index(drawn.plane)

    def _select_new(self, action: Action) -> None:
        self.select([(c.index, c.uuid) for c in action.changes if c.before is None])

    def _select_parts(self, action: Action) -> None:
        self.select([(c.index, c.uuid) for c in action.changes if c.after is not None])

    # -- the model ----------------------------------------------------------------------------

    def draw_box(self) -> None:
        """Draw a box round an object that was missed."""
        self.gestures.rectangle(
            self._target(),
            self._told(self._on_box),
            name="box",
            hint="Box → mask: drag a box round the object. Esc cancels.",
        )

    def _on_box(self, drawn: Drawn) -> None:
        (y1, x1), (y2, x2) = drawn.points_yx
        ((bx1, by1), (bx2, by2)) = outline_yx_to_xy([(y1, x1), (y2, x2)])
        self.ask_box(self._plane(drawn), (bx1, by1, bx2, by2))

    def ask_box(
        self,
        index: PlaneIndex,
        box_xyxy: tuple[float, float, float, float],
        *,
        uuid: str | None = None,
        joins: str = "",
        job: DetectJob | None = None,
    ) -> None:
        """Ask the model for the mask in a box: of a new instance, or of one that is there.

        Answers to asks with the same `joins` that follow each other are one step to undo. Who asks
        about many boxes gives the `job` of all, which takes 1 ms to make.
        """
        ask = _Ask(session=self._editable_session(), uuid=uuid, joins=joins)
        job = job or self._job()
        self._ask(Prompt(job=job, index=index, boxes_xyxy=np.array([box_xyxy]), purpose=ask))

    def _job(self) -> DetectJob:
        try:
            return self._make_job()
        except ValueError as error:
            raise NotReadyError(f"the model cannot be asked: {error}") from error

    def _ask(self, prompt: Prompt) -> None:
        self.said.emit("asking the model … Esc cancels.")
        self._prompts.ask(prompt)

    def stop_asking(self) -> None:
        """Drop what the model was asked."""
        self._prompts.cancel()
        self.said.emit("stopped asking the model")

    def ask_selected(self) -> None:
        """Ask the model again for the masks of the selected instances, in their boxes."""
        chosen, job, joins = self._chosen(), self._job(), str(uuid4())
        for index, uuid in chosen:
            instance = self.view.session.get(index, uuid)
            if instance is not None:
                x1, y1, x2, y2 = instance.box_xyxy
                self.ask_box(index, (x1, y1, x2, y2), uuid=uuid, joins=joins, job=job)

    def click_missed(self) -> None:
        """Click an object that was missed."""
        self.gestures.click(
            self._target(),
            self._told(self._on_missed),
            name="missed",
            hint="Missed object: click it. Esc cancels.",
        )

    def _on_missed(self, drawn: Drawn) -> None:
        index, session = self._plane(drawn), self._editable_session()
        ((x, y),) = outline_yx_to_xy(drawn.points_yx)
        height, width = session.image_hw
        if not (0 <= x < width and 0 <= y < height):
            self.said.emit("that is outside the image")
            return
        candidate = tools.candidate_at(session, index, y=int(y), x=int(x))
        if candidate is not None:
            self.do(tools.promoted(session, index, candidate.uuid))
            self.select([(index, candidate.uuid)])
            return
        sides = np.sqrt(session.visible(index).areas)
        self._ask(
            Prompt(
                job=self._job(),
                index=index,
                point_xy=(x, y),
                size_px=float(np.median(sides)) if sides.size else None,
                purpose=_Ask(session=session, uuid=None),
            )
        )

    def _on_answered(self, answer: Answer) -> None:
        ask: _Ask = answer.prompt.purpose
        view = self._current_view()
        if view is None or view.session is not ask.session:
            self.said.emit("another image was chosen meanwhile: the model's answer was dropped")
            return
        try:
            for found in answer.instances:
                self._take_answer(view, answer, found)
        except DeepPixelError as error:
            self.said.emit(str(error))

    def _take_answer(self, view: InstanceLayers, answer: Answer, found: Instance | None) -> None:
        if found is None:
            self.said.emit("the model sees no object there: trace it with Lasso, or paint it")
            return
        session, index = self._editable_session(), answer.prompt.index
        ask: _Ask = answer.prompt.purpose
        ids = session.join_categories(answer.categories)
        found = replace(found, category_id=ids[found.category_id])
        if ask.uuid is not None:
            action = reshape_tools.with_mask(
                session, index, ask.uuid, mask=found.mask, rule=view.overlap_rule
            )
            if self.do(action, nothing="the model gives the same mask", joins=ask.joins):
                self._set_pending(session.history.top)
                self.said.emit("New mask: Enter keeps it, Esc brings the old one back.")
            return
        there = _same_object(session, index, found)
        if there is not None:
            self.select([(index, there.uuid)])
            self.said.emit("that one is there already, selected now: Ask again gives it a new mask")
            return
        is_doubtful = found.score < CANDIDATE_SCORE
        # a guess must not take pixels from what is known
        rule = OverlapRule.KEEP if is_doubtful else view.overlap_rule
        action = reshape_tools.suggested(session, index, found, rule=rule)
        if self.do(action, nothing="others have these pixels already", joins=ask.joins):
            self._select_new(action)
            name = session.categories.name_of(found.category_id)
            self.said.emit(
                f"The model sees hardly an object there. Added as {name}, beside the others: undo "
                "it, or correct it with the brush."
                if is_doubtful
                else f"added as {name} ({found.score:.0%}): keys 1 to 9 change that. Not the right "
                "one? Undo, and drag a box round it."
            )

    @property
    def is_pending(self) -> bool:
        """Whether a new mask waits to be kept or restored."""
        return self._pending is not None

    def _set_pending(self, step: Action | None) -> None:
        was_pending, self._pending = self.is_pending, step
        if was_pending != self.is_pending:
            self.pending_changed.emit(self.is_pending)

    def follow_session(self) -> None:
        """Take another step of the person, such as a stroke, for a yes to the new mask."""
        view = self._current_view()
        if view is None or view.session.history.top is not self._pending:
            self._set_pending(None)

    def keep(self) -> None:
        """Keep the mask that the model gave last."""
        if self.is_pending:
            self._set_pending(None)
            self.said.emit("kept")

    def restore(self) -> None:
        """Bring back the mask that was there before the model gave another."""
        # of several that were asked about, the others are no longer wanted either
        self._prompts.cancel()
        if self.is_pending and self.view.session.history.top is self._pending:
            self.undo()
        self._set_pending(None)

    def shut_down(self) -> None:
        """Stop all work."""
        self.gestures.close()
        self._task.abandon()

    # -- the boxes layer ----------------------------------------------------------------------

    def take_box_edits(self) -> None:
        """Follow what a person did in the boxes layer."""
        view = self._current_view()
        if view is None:
            return
        edits = view.take_box_edits()
        if edits.deleted:
            self.do(tools.deleted(view.session, edits.deleted))
        if not edits.moved and not edits.drawn:
            return
        try:
            job, joins = self._job(), str(uuid4())
            for (index, uuid), box in edits.moved:
                self.ask_box(index, box, uuid=uuid, joins=joins, job=job)
            for index, box in edits.drawn:
                self.ask_box(index, box, job=job)
        except NotReadyError:
            # nothing is lost: it is asked when the settings are right
            view.boxes.wait(replace(edits, deleted=()))
            raise


def _same_object(session: AnnotationSession, index: PlaneIndex, found: Instance) -> Instance | None:
    """Return the visible instance that shows the same object as one that the model found."""
    near = session.shown_in(index, found.mask.box_xyxy)
    best = max(near, key=lambda instance: instance.mask.iou(found.mask), default=None)
    if best is None or best.mask.iou(found.mask) < _SAME_OBJECT_IOU:
        return None
    return best
