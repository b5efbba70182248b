"""The Review tab: go through the instances, correct them, and say what is complete."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.progress import Progress
from napari_deeppixel.edits.queue import QueueItem, QueueOrder
from napari_deeppixel.edits.reshape import regions_mask
from napari_deeppixel.edits.session import DONE_STATES, AnnotationSession, Applied
from napari_deeppixel.viewer.camera import show_instance
from napari_deeppixel.viewer.colors import ColorKeeper
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.card import InstanceCard
from napari_deeppixel.widgets.controls import TallArea, single_shot
from napari_deeppixel.widgets.detect import DetectTab
from napari_deeppixel.widgets.instance_table import InstanceTable
from napari_deeppixel.widgets.journal_bar import JournalBar
from napari_deeppixel.widgets.journals import Journals
from napari_deeppixel.widgets.prompts import PromptRunner
from napari_deeppixel.widgets.review_commands import review_commands
from napari_deeppixel.widgets.review_panels import ReviewPanels, collapsible
from napari_deeppixel.widgets.review_queue import ReviewQueue
from napari_deeppixel.widgets.review_tools import READ_ONLY, InstanceRef, ReviewTools
from napari_deeppixel.widgets.shortcuts import KeyBinder, Shortcuts, ShortcutTable

# after the last event; napari's own undo and writes to `layer.data` are taken then
_SETTLE_MS = 250
_PROGRESS_MS = 100
# side of the grid on which complete regions are counted: 1 s for all of 2048 x 2048 pixels
_COARSE_PX = 256
# a look takes 2 ms with 1,000 instances
_LOOK_MS = 1000
# setting colours takes 10 to 25 ms
_COLOR_MS = 300


class Guide(Protocol):
    """Leads through instances in the place of the queue."""

    def go(self, step: int) -> None:
        """Go to the next (1) or the one before (-1)."""

    def decide(self, state: InstanceState) -> bool:
        """Take a decision, and go on; return whether it was about what the guide shows."""

    def take(self) -> bool:
        """Do what the guide suggests, and go on; return whether it suggests anything."""


class ReviewTab(QWidget):
    """Go through the instances of an image and correct them.

    Parameters
    ----------
    viewer
        The napari viewer.
    detect
        Whose image, model and settings are used.
    journals
        Of the viewer's images.
    """

    def __init__(
        self, viewer: Any, detect: DetectTab, journals: Journals, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._detect, self._journals = viewer, detect, journals
        self._view: InstanceLayers | None = None
        self._colors: ColorKeeper | None = None
        self._hidden: list[InstanceRef] = []
        self._is_shut_down = False
        # the share of a plane that is complete, of the regions that it was counted for
        self._complete: tuple[Any, float] = (None, 0.0)
        self._connections: list[tuple[Any, Any]] = []
        self.prompts = PromptRunner(detect.run.shelf, self)
        self.tools = ReviewTools(viewer, lambda: self._view, detect.prompt_job, self.prompts, self)
        self.queue = ReviewQueue(self)
        # None: the queue leads
        self.guide: Guide | None = None
        self.commands = review_commands(self.tools, self)
        self.shortcuts = Shortcuts(self.commands)
        self.keys = KeyBinder(self.shortcuts)
        # one for both tabs: two that draw at once would undo each other's work for ever
        self.steps = detect.run.steps
        self._settle_timer = single_shot(self, _SETTLE_MS, self._settle)
        self._progress_timer = single_shot(self, _PROGRESS_MS, self._show_progress)
        self._color_timer = single_shot(self, _COLOR_MS, self._refresh_colors)
        # napari's own table tells nobody when a cell is changed
        self._look_timer = QTimer(self)
        self._look_timer.setInterval(_LOOK_MS)
        self._look_timer.timeout.connect(self._look_at_tables)
        self._look_timer.start()
        # 25 ms with 1,000 boxes, after the card is there and the canvas has moved
        self._mark_timer = single_shot(self, 0, self._mark_selected)
        self._build()
        self._connect()
        self._show_progress()
        self._on_image_changed()

    # -- building -----------------------------------------------------------------------------

    def _build(self) -> None:
        self.panels = panels = ReviewPanels(self.commands, self.shortcuts)
        self.card = InstanceCard()
        self.table = InstanceTable()
        self.bar = JournalBar(self._viewer, self._journals)
        content = QWidget()
        self._layout = layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 6, 0)
        layout.addWidget(panels.by_hand)
        layout.addLayout(panels.queue_box())
        layout.addWidget(self.card)
        layout.addLayout(panels.decide_box())
        layout.addWidget(panels.status)
        layout.addWidget(collapsible("Tools", "review.tools", panels.tools_box(), is_open=True))
        layout.addLayout(panels.undo_row())
        layout.addWidget(collapsible("Table", "review.table", self.table, is_open=True))
        layout.addWidget(collapsible("Complete regions", "review.complete", panels.complete_box()))
        shortcuts = ShortcutTable(self.shortcuts)
        layout.addWidget(collapsible("Shortcuts", "review.shortcuts", shortcuts))
        layout.addStretch(1)
        area = TallArea(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 4, 0, 0)
        outer.addWidget(area)
        self._content = content

    def _connect(self) -> None:
        panels = self.panels
        for command_id, each in panels.buttons.items():
            command = self.commands[command_id]
            each.clicked.connect(
                lambda _checked=False, command=command: self._run_quietly(command.run)
            )
        panels.order.currentIndexChanged.connect(self._on_order)
        panels.category.currentIndexChanged.connect(self._on_order)
        panels.rule.currentIndexChanged.connect(self._on_rule)
        panels.color.currentIndexChanged.connect(self._on_color)
        panels.drawn_category.currentIndexChanged.connect(self._on_drawn_category)
        panels.by_hand.clicked.connect(lambda: self._run_quietly(self._on_by_hand))
        self.bar.brought_back.connect(self._on_brought_back)
        self.card.category_chosen.connect(self._on_category_chosen)
        self.table.selected.connect(self.tools.select)
        self.table.activated.connect(self._on_activated)
        self.queue.arrived.connect(self._on_arrived)
        self.queue.changed.connect(self._progress_timer.start)
        self.queue.changed.connect(lambda: self.table.set_uncertainties(self.queue.uncertainties()))
        self.queue.failed.connect(self._on_failed)
        self.tools.said.connect(panels.status.say)
        self.tools.selection_changed.connect(self._on_selection)
        self.tools.pending_changed.connect(self._lend_keys)
        self.tools.gestures.changed.connect(self._on_gesture)
        self.prompts.busy_changed.connect(self._lend_keys)
        self.prompts.progressed.connect(self._on_asking)
        self.prompts.failed.connect(self._on_failed)
        self.tools.failed.connect(self._on_failed)
        self.shortcuts.changed.connect(self._on_shortcuts_changed)
        self._detect.image_changed.connect(self._on_image_changed)
        self._detect.run.finished.connect(self._on_run_finished)
        for key, do in (
            ("Ctrl+Z", self.tools.undo),
            ("Ctrl+Shift+Z", self.tools.redo),
        ):
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(lambda do=do: self._run_quietly(do))
        for signal, slot in (
            (self._viewer.layers.events.removed, self._on_layer_removed),
            (self._viewer.dims.events.current_step, self._on_plane_changed),
        ):
            signal.connect(slot)
            self._connections.append((signal, slot))

    def shut_down(self) -> None:
        """Stop all work and let go of the viewer; may be called more than once."""
        # what goes from the viewer now is no news any more
        self._is_shut_down = True
        self.keys.deactivate()
        self.tools.shut_down()
        self._follow_view(None)
        self.queue.shut_down()
        self.prompts.shut_down()
        self.steps.stop()
        self._settle_timer.stop()
        self._progress_timer.stop()
        self._color_timer.stop()
        self._mark_timer.stop()
        self._look_timer.stop()
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self._connections.clear()

    def _run_quietly(self, do: Callable[[], object]) -> None:
        """Do something; what stands in the way is said in the status line."""
        try:
            do()
        except (DeepPixelError, ValueError) as error:
            self.panels.status.say(str(error))

    # -- which image --------------------------------------------------------------------------

    def show_guide_panel(self, panel: QWidget) -> None:
        """Put the panel of a guide on top of the tab."""
        self._layout.insertWidget(0, panel)

    @property
    def view(self) -> InstanceLayers | None:
        """The layers under review."""
        return self._view

    def _on_image_changed(self) -> None:
        if self._is_shut_down:
            return
        image = self._detect.image_layer
        channel_axis = self._detect.channel_axis
        if image is not None:
            # the Detect tab says what is wrong with an image
            with contextlib.suppress(DeepPixelError, ValueError):
                self._journals.watch(image, self._detect.image_array())
        self.bar.set_image(image, channel_axis=channel_axis)
        self._follow_view(self._detect.instance_layers)

    def _on_run_finished(self, _summary: str) -> None:
        self._on_image_changed()

    def _on_brought_back(self, _image: Image) -> None:
        view = self._detect.instance_layers
        self._follow_view(view)
        if view is not None:
            self._detect.show_score(view.session.score)
            self.steps.run(self._drawn(view))

    def _drawn(self, view: InstanceLayers) -> Iterator[None]:
        """Draw all, then choose the layer on which the keys work."""
        yield from view.redraw()
        if view.labels_layers:
            self._viewer.layers.selection.active = view.labels_layers[0]

    def _on_by_hand(self) -> None:
        image = self._detect.image_layer
        if image is None:
            self.panels.status.say("Open an image first.")
            return
        refusal = self._journals.refusal(image)
        if refusal:
            self.panels.status.say(refusal)
            return
        session = AnnotationSession(
            self._detect.image_array().image_hw, CategoryTable.from_names("object")
        )
        view = InstanceLayers(self._viewer, image, session, channel_axis=self._detect.channel_axis)
        for _ in view.redraw():
            pass
        self._on_image_changed()
        view.select_new()
        self._viewer.layers.selection.active = view.labels_layers[0]
        self.panels.status.say("Paint on the Labels layer, or use Lasso, Box → mask, Add missed.")

    def _follow_view(self, view: InstanceLayers | None) -> None:
        if view is self._view:
            return
        # while the old layers are still ours: it gives back what it borrowed of them
        self.tools.gestures.cancel()
        self.tools.keep()
        self.keys.deactivate()
        if self._view is not None:
            for signal, slot in self._signals(self._view):
                signal.disconnect(slot, missing_ok=True)
            for layer in self._view.labels_layers:
                layer.events.paint.disconnect(self._on_paint)
        if self._colors is not None:
            if self._colors.hides_others:
                # nothing may stay hidden where nobody can show it again
                self._colors.hide_others(None)
            self._colors.close()
        self._hidden = []
        self._view = view
        self._colors = None if view is None else ColorKeeper(view, on_stale=self._color_timer.start)
        self.tools.select([])
        self.table.set_view(view)
        self.card.clear()
        self.queue.set_session(None if view is None else view.session)
        if view is not None:
            for signal, slot in self._signals(view):
                signal.connect(slot)
            for layer in view.labels_layers:
                layer.events.paint.connect(self._on_paint)
            self._show_categories()
            self._on_rule()
            self._on_color()
        self.panels.by_hand.setVisible(view is None)
        self.panels.planes.setVisible(view is not None and bool(view.planes.lead_shape))
        self._activate_keys()
        self._show_progress()

    def _signals(self, view: InstanceLayers) -> list[tuple[Any, Any]]:
        return [
            (view.dirtied, self._on_dirtied),
            (view.told, self.panels.status.say),
            (view.selection_changed, self._on_canvas_selection),
            (view.clicked, self._on_clicked),
            (view.layer_added, self._on_layer_added),
            (view.layer_left, self._on_layer_left),
            (view.session.changed, self._on_session_changed),
            (view.session.visibility_changed, self._on_visibility_changed),
            (view.session.categories_changed, self._on_categories_changed),
        ]

    def _on_layer_removed(self, event: Any) -> None:
        if isinstance(event.value, Image):
            self._journals.forget(event.value)

    # -- keeping session and layers in step ---------------------------------------------------

    def _on_dirtied(self) -> None:
        self._settle_timer.start()

    def _settle(self) -> None:
        view = self._view
        if view is None:
            return
        if self._detect.run.is_running or self.steps.is_running:
            self._settle_timer.start()
            return
        self._run_quietly(self.tools.take_box_edits)
        self.steps.run(view.settle())

    def _look_at_tables(self) -> None:
        if self._view is not None and self.isVisible() and self._view.has_changed_tables():
            self._settle_timer.start()

    def _on_paint(self, event: Any) -> None:
        """Say why a stroke is taken off again."""
        is_stroke = any(hasattr(atom, "slice_key") for atom in event.value)
        if is_stroke and self._view is not None and self._view.session.is_read_only:
            self.panels.status.say(READ_ONLY)
            show_warning(READ_ONLY)

    def _on_session_changed(self, applied: Applied) -> None:
        if applied.kind == "do":
            # a stroke, too; a tool may say more
            self.panels.status.say(applied.action.name)
        self.tools.follow_session()
        self._progress_timer.start()

    def _on_visibility_changed(self, _turned: object) -> None:
        self._progress_timer.start()

    def _on_categories_changed(self, _table: CategoryTable) -> None:
        self._show_categories()

    def _show_categories(self) -> None:
        if self._view is None:
            return
        categories = self._view.session.categories.categories
        self.keys.set_category_keys(
            {
                category.key: partial(self.tools.set_category, category.name)
                for category in categories
                if category.key
            }
        )
        for box in (self.panels.category, self.panels.drawn_category):
            chosen = box.currentData()
            with signals_blocked(box):
                box.clear()
                for category in categories:
                    box.addItem(category.name, category.id)
                box.setCurrentIndex(max(box.findData(chosen), 0))
        self._on_drawn_category()

    def _on_drawn_category(self) -> None:
        if self._view is not None:
            self._view.drawn_category_id = self.panels.drawn_category.currentData()

    def _on_rule(self) -> None:
        if self._view is not None:
            self._view.set_overlap_rule(self.panels.rule.currentData())

    def _refresh_colors(self) -> None:
        if self._colors is not None:
            self._colors.refresh()

    def _on_color(self) -> None:
        if self._colors is not None:
            self._colors.set_by(self.panels.color.currentData())

    # -- selection ----------------------------------------------------------------------------

    def _on_canvas_selection(self, refs: list[InstanceRef]) -> None:
        if set(refs) != set(self.tools.selected):
            self.tools.select(refs)
            if refs:
                self.queue.set_current(refs[0][1])

    def _on_clicked(self, ref: InstanceRef, is_adding: bool) -> None:
        others = self.tools.selected if is_adding else []
        self.tools.select([ref, *(other for other in others if other != ref)])
        self.queue.set_current(ref[1])

    def _on_selection(self, refs: list[InstanceRef]) -> None:
        self.table.select(refs)
        self._show_card()
        self._mark_timer.start()
        if self._hidden and self._colors is not None:
            self._hidden = refs
            self._colors.hide_others(refs or None)

    def _mark_selected(self) -> None:
        if self._colors is not None:
            self._colors.set_selected(self.tools.selected)

    def _show_card(self) -> None:
        refs = self.tools.selected
        if self._view is None or not refs:
            self.card.clear()
            return
        first = self._view.session.get(*refs[0])
        if len(refs) > 1:
            reason = f"{len(refs):,} selected"
        elif first is not None and first.state is InstanceState.REJECTED:
            reason = "rejected, so it is not drawn"
        elif first is not None and first.state in DONE_STATES:
            # why it was in the queue is settled
            reason = ""
        else:
            reason = self.queue.reason(refs[0][1])
        self.card.show_instance(self._view, refs[0], reason=reason)

    def _on_activated(self, ref: InstanceRef) -> None:
        if self._view is not None:
            self.tools.select([ref])
            show_instance(self._viewer, self._view, *ref)
            self.queue.set_current(ref[1])

    def _on_category_chosen(self, name: str) -> None:
        self._run_quietly(lambda: self.tools.set_category(name))

    # -- the queue ----------------------------------------------------------------------------

    def go(self, step: int) -> None:
        """Go to the next instance of the queue (1) or the one before (-1)."""
        (self.guide or self.queue).go(step)

    def decide(self, state: InstanceState) -> None:
        """Set the state of the selected instances, and go on."""
        if self.guide is None:
            self.tools.set_state(state)
            self.queue.go(1)
        elif not self.guide.decide(state):
            # about another instance than the one that the guide shows
            self.tools.set_state(state)

    def ask_again(self) -> None:
        """Take what the guide suggests; else ask the model for the selected masks."""
        if self.guide is None or not self.guide.take():
            self.tools.ask_selected()

    def toggle_others(self) -> None:
        """Hide all but the selected instances, or show them again."""
        if self._colors is None:
            return
        if not self._hidden and not self.tools.selected:
            self.panels.status.say("select what is to stay first: click it")
            return
        self._hidden = [] if self._hidden else self.tools.selected
        self._colors.hide_others(self._hidden or None)

    def _on_order(self) -> None:
        order = self.panels.order.currentData()
        self.panels.category.setVisible(order is QueueOrder.CATEGORY)
        self.queue.set_order(order, category_id=self.panels.category.currentData())

    def _on_arrived(self, item: QueueItem | None) -> None:
        if item is None or self._view is None:
            self.panels.status.say("Nothing left in this queue.")
            return
        if not self._view.labels_layers:
            # somebody deleted it: it comes back from the session
            self.steps.run(self._drawn(self._view))
        show_instance(self._viewer, self._view, item.index, item.uuid)
        self.tools.select([(item.index, item.uuid)])

    def _show_progress(self) -> None:
        done, total, text = self.queue.progress()
        self.panels.progress.setRange(0, max(total, 1))
        self.panels.progress.setValue(done)
        self.panels.progress.setFormat(text)
        self._show_complete()
        self._show_undo()

    def _show_complete(self) -> None:
        view = self._view
        index = None if view is None else view.planes.current()
        share = 0.0
        if view is not None and index is not None:
            what_for = (view.session.regions(index), view.session.image_hw)
            if self._complete[0] != what_for:
                self._complete = (what_for, _share_of(*what_for))
            share = self._complete[1]
        what = "this image" if view is None or not view.planes.lead_shape else "this plane"
        self.panels.complete.say(f"{share:.0%} of {what} is complete.")

    def _show_undo(self) -> None:
        history = None if self._view is None else self._view.session.history
        for command_id, caption, name in (
            ("undo", "Undo", "" if history is None else history.undo_name),
            ("redo", "Redo", "" if history is None else history.redo_name),
        ):
            each = self.panels.buttons[command_id]
            each.show_caption(f"{caption}: {name}" if name else caption)
            each.setEnabled(bool(name))

    def _on_plane_changed(self, *_event: Any) -> None:
        self._progress_timer.start()
        # somebody may have written to this plane while another one was shown
        self._settle_timer.start()

    # -- keys and gestures --------------------------------------------------------------------

    def _activate_keys(self) -> None:
        if self._view is not None and self.isVisible():
            self.keys.activate(filter(self._takes_keys, self._view.layers))
        else:
            self.keys.deactivate()

    def _on_layer_added(self, layer: Layer) -> None:
        if isinstance(layer, Labels):
            layer.events.paint.connect(self._on_paint)
        if self.isVisible() and self._takes_keys(layer):
            self.keys.add_layer(layer)

    def _on_layer_left(self, layer: Layer) -> None:
        self.keys.remove_layer(layer)
        if isinstance(layer, Labels):
            layer.events.paint.disconnect(self._on_paint)

    def _takes_keys(self, layer: Layer) -> bool:
        """Whether keys mean instances on a layer: on complete regions they mean napari's shapes."""
        return self._view is None or layer != self._view.regions.layer

    def showEvent(self, event: Any) -> None:
        """Let the keys work while the tab is open."""
        super().showEvent(event)
        self._activate_keys()

    def hideEvent(self, event: QEvent | None) -> None:
        """Let them work no longer; what waits for the mouse waits no more."""
        super().hideEvent(event)  # type: ignore[arg-type]
        self.tools.gestures.cancel()
        self.keys.deactivate()

    def _lend_keys(self, *_what: object) -> None:
        """Give Enter and Escape a meaning while they have one."""
        if self.tools.gestures.is_armed:
            # they are the gesture's, and are lent when it ends
            return
        if self.tools.is_pending:
            self.keys.borrow({"Enter": self.tools.keep, "Escape": self.tools.restore})
        elif self.prompts.is_busy:
            self.keys.borrow({"Escape": self.tools.stop_asking})
        else:
            self.keys.give_back()

    def _on_asking(self, progress: Progress) -> None:
        self.panels.status.say(f"asking the model: {progress.message or 'looking'} … Esc cancels.")

    def _on_gesture(self, name: str | None) -> None:
        if self._view is not None:
            self._view.is_tool_armed = name is not None
        for command_id, each in self.panels.buttons.items():
            each.setDown(command_id == name)
        if name is None:
            self._lend_keys()
        if name is not None:
            self.panels.status.say(self.tools.gestures.hint)
        elif self.panels.status.text().endswith("Esc cancels."):
            self.panels.status.say(self.tools.gestures.why_cancelled)

    def _on_shortcuts_changed(self) -> None:
        for each in self.panels.buttons.values():
            each.show_key()

    def _on_failed(self, error: BaseException) -> None:
        self.panels.status.say(str(error))
        if not isinstance(error, DeepPixelError):
            raise error
        show_warning(str(error))


def _share_of(regions: tuple[Outline, ...], image_hw: tuple[int, int]) -> float:
    """Return how much of a plane lies in some regions, 0 to 1, to half a percent or so."""
    scale = min(1.0, _COARSE_PX / max(image_hw))
    coarse_hw = (max(1, round(image_hw[0] * scale)), max(1, round(image_hw[1] * scale)))
    coarse = [tuple((x * scale, y * scale) for x, y in region) for region in regions]
    mask = regions_mask(coarse, coarse_hw)
    return 0.0 if mask is None else mask.area / (coarse_hw[0] * coarse_hw[1])
