"""Random work on the layers against a slow and plain model of what it means."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from napari.layers import Labels
from numpy.typing import NDArray
from tests.viewer.scene import HW, Scene, drawn, found, rect

from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.tools import deleted

Picture = NDArray[np.int64]
Masks = dict[str, NDArray[np.bool_]]

INDICES = [(0,), (1,)]
YX = st.tuples(st.integers(0, HW[0] - 1), st.integers(0, HW[1] - 1))
NUMBERS = st.integers(0, 9)


def masks_of(instances: list[Instance]) -> Masks:
    """Return masks on the whole plane by uuid."""
    return {instance.uuid: instance.mask.to_mask(HW) for instance in instances}


class Expected:
    """What must become of the instances of a plane: by uuid, and those that are new."""

    def __init__(self, scene: Scene, index: tuple[int, ...]) -> None:
        self.scene, self.index = scene, index
        session = scene.session
        self.before = drawn(scene.view, index, scene.labels)
        self.masks = masks_of(list(session.plane(index)))
        self.handles = {i.handle: i for i in session.visible(index)}
        # what can come back: an instance that is hidden, rejected, or gone and still known
        self.owners = {}
        for number in range(300):
            owner = session.owner_of(number)
            is_here = owner is not None and owner[0] == index
            if is_here and (session.get(*owner) or session.history.last_known(owner[1])):
                self.owners[number] = owner[1]

    def check(self, after: Picture, *, brings_back: bool) -> None:
        """Compare with the session, after the label picture became another."""
        new = self._follow(after, brings_back=brings_back)
        masks = masks_of(list(self.scene.session.plane(self.index)))
        assert masks.keys() >= self.masks.keys()
        for uuid, mask in self.masks.items():
            assert np.array_equal(masks.pop(uuid), mask), uuid
        assert sorted(mask.tolist() for mask in masks.values()) == sorted(m.tolist() for m in new)

    def _follow(self, after: Picture, *, brings_back: bool) -> list[NDArray[np.bool_]]:
        before, rule_ = self.before, self.scene.view.overlap_rule
        changed = before != after
        over = changed & (before != 0) & (after != 0)
        gains = changed & ~over if rule_ is OverlapRule.KEEP else changed
        losses = changed if rule_ is OverlapRule.TAKE else changed & ~over
        new = []
        for number in np.union1d(before[changed], after[changed]).tolist():
            gained, lost = gains & (after == number), losses & (before == number)
            if number == 0 or not (gained | lost).any():
                continue
            instance = self.handles.get(number)
            if instance is not None:
                self._change(instance, (self.masks[instance.uuid] & ~lost) | gained)
            elif brings_back and number in self.owners:
                self.masks[self.owners[number]] = gained
            else:
                new.append(gained)
        return new

    def _change(self, instance: Instance, mask: NDArray[np.bool_]) -> None:
        if mask.any():
            self.masks[instance.uuid] = mask
        elif np.isnan(instance.score):
            # what a person drew goes; what a model found is rejected with the mask that it had
            del self.masks[instance.uuid]


class LayerMachine(RuleBasedStateMachine):
    """A person at the layers of a stack of two planes."""

    def __init__(self) -> None:
        super().__init__()
        masks = [rect(2, 2), rect(2, 5), rect(6, 4), rect(12, 20)]
        one = found(masks, scores=[0.9, 0.8, 0.7, 0.3], category_ids=[1, 2, 1, 1])
        two = found(masks[1:3], names="xy")
        self.scene = Scene((2, *HW), {(0,): one, (1,): two})
        self.scene.labels.brush_size = 5
        self.known: dict[int, list[Masks]] = {}
        self.index: tuple[int, ...] = (0,)
        self.note()

    # -- what is compared -------------------------------------------------------------------------

    def everything(self) -> list[Masks]:
        """Return the masks of all instances, plane by plane."""
        return [masks_of(list(self.scene.session.plane(index))) for index in INDICES]

    def note(self) -> None:
        """Remember what there is after so many steps."""
        depth = len(self.scene.session.history)
        self.known = {n: masks for n, masks in self.known.items() if n < depth}
        self.known[depth] = self.everything()

    def do(self, change: Callable[[Labels], object], *, is_stroke: bool) -> None:
        """Change the label picture of the plane in view, and compare."""
        depth = len(self.scene.session.history)
        expected = Expected(self.scene, self.index)
        labels = self.scene.labels
        change(labels)
        if is_stroke:
            twin = Labels(expected.before.astype(np.uint16))
            twin.brush_size = labels.brush_size
            twin.contiguous = labels.contiguous
            self.change_twin(twin)
            after = np.asarray(twin.data, np.int64)
        else:
            after = labels.data[self.index].astype(np.int64)
            self.scene.view.settle_all()
        expected.check(after, brings_back=not is_stroke)
        assert len(self.scene.session.history) - depth in (0, 1)
        self.note()

    def stroke(self, change: Callable[[Labels, tuple[int, ...]], object]) -> None:
        """Do what a stroke does, on the layer and on a picture of its own."""
        self.change_twin = lambda twin: change(twin, ())
        self.do(lambda labels: change(labels, self.index), is_stroke=True)

    @invariant()
    def layers_agree_with_the_session(self) -> None:
        self.scene.settle()

    # -- what a person does -----------------------------------------------------------------------

    @rule(places=st.lists(YX, min_size=1, max_size=3), number=NUMBERS, is_mouse=st.booleans())
    def paint(self, places: list[tuple[int, int]], number: int, is_mouse: bool) -> None:
        self.scene.labels.selected_label = number or 1

        def change(layer: Labels, lead: tuple[int, ...]) -> None:
            with layer.block_history():
                for place in places if is_mouse else places[:1]:
                    layer.paint((*lead, *place), number)

        def change_one(layer: Labels, lead: tuple[int, ...]) -> None:
            layer.paint((*lead, *places[0]), number)

        self.stroke(change if is_mouse else change_one)

    @rule(place=YX, number=NUMBERS, is_contiguous=st.booleans())
    def fill(self, place: tuple[int, int], number: int, is_contiguous: bool) -> None:
        self.scene.labels.contiguous = is_contiguous
        self.stroke(lambda layer, lead: layer.fill((*lead, *place), number))

    @rule(corners=st.lists(YX, min_size=3, max_size=5), number=NUMBERS)
    def paint_polygon(self, corners: list[tuple[int, int]], number: int) -> None:
        self.stroke(
            lambda layer, lead: layer.paint_polygon(
                [(*lead, *corner) for corner in corners], number
            )
        )

    @rule(start=YX, size=st.tuples(st.integers(1, 6), st.integers(1, 6)), number=NUMBERS)
    def write(self, start: tuple[int, int], size: tuple[int, int], number: int) -> None:
        def change(layer: Labels) -> None:
            plane = layer.data[self.index]
            plane[start[0] : start[0] + size[0], start[1] : start[1] + size[1]] = number

        self.do(change, is_stroke=False)

    @rule(dtype=st.sampled_from([np.uint8, np.uint16, np.int64]), number=NUMBERS)
    def replace_data(self, dtype: Any, number: int) -> None:
        def change(layer: Labels) -> None:
            new = layer.data.astype(dtype)
            new[(*self.index, slice(8, 11), slice(8, 11))] = number
            layer.data = new

        self.do(change, is_stroke=False)

    @rule()
    def undo_in_napari(self) -> None:
        # the stroke may have been on the other plane
        self.scene.labels.undo()
        self.scene.view.settle_all()
        self.note_only_now()

    @rule()
    def redo_in_napari(self) -> None:
        self.scene.labels.redo()
        self.scene.view.settle_all()
        self.note_only_now()

    def note_only_now(self) -> None:
        """Forget what was before: nobody compared it."""
        self.known = {}
        self.note()

    @rule()
    def undo(self) -> None:
        self.scene.view.undo()
        self.compare_with_known()

    @rule()
    def redo(self) -> None:
        self.scene.view.redo()
        self.compare_with_known()

    def compare_with_known(self) -> None:
        """Compare with what was there after as many steps."""
        assert_in_step_but_boxes(self.scene)
        known = self.known.get(len(self.scene.session.history))
        if known is not None:
            for then, now in zip(known, self.everything(), strict=True):
                assert then.keys() == now.keys()
                assert all(np.array_equal(then[uuid], now[uuid]) for uuid in then)

    @rule(overlap_rule=st.sampled_from(list(OverlapRule)))
    def choose_rule(self, overlap_rule: OverlapRule) -> None:
        self.scene.view.set_overlap_rule(overlap_rule)

    @rule(score=st.sampled_from([0.2, 0.5, 0.75, 0.95]))
    def move_slider(self, score: float) -> None:
        self.scene.session.set_visibility(score=score, min_area=1)

    @rule(index=st.sampled_from(INDICES))
    def show_plane(self, index: tuple[int, ...]) -> None:
        self.index = index
        self.scene.viewer.dims.set_current_step(0, index[0])

    @rule(is_visible=st.booleans())
    def hide_layer(self, is_visible: bool) -> None:
        self.scene.labels.visible = is_visible

    @rule(
        number=NUMBERS,
        place=YX,
        then=st.sampled_from(["stroke", "slider", "undo", "delete", "redraw", "remove", "table"]),
    )
    def do_something_while_a_write_waits(
        self, number: int, place: tuple[int, int], then: str
    ) -> None:
        scene = self.scene
        scene.labels.data[(1, *place)] = number
        if then == "stroke":
            scene.stroke((*self.index, 8, 8), number=number, size=5)
        elif then == "slider":
            scene.session.set_visibility(score=0.25, min_area=1)
        elif then == "undo":
            scene.session.undo()
        elif then == "delete":
            scene.session.apply(deleted(scene.session, [((0,), "a"), ((1,), "x")]))
        elif then == "redraw":
            scene.redraw()
        elif then == "remove":
            scene.viewer.layers.remove(scene.labels)
            scene.redraw()
            scene.labels.brush_size = 5
        else:
            scene.labels.features.loc[1:, "state"] = "accepted"
            scene.stroke((*self.index, 8, 8), number=number, size=5)
        scene.view.settle_all()
        self.note_only_now()


def assert_in_step_but_boxes(scene: Scene) -> None:
    """Assert that the Labels layer shows the session, before anything is settled."""
    for index in INDICES:
        assert np.array_equal(scene.labels.data[index], drawn(scene.view, index, scene.labels))


TestLayers = LayerMachine.TestCase
TestLayers.settings = settings(max_examples=12, stateful_step_count=15)
