"""Label mistakes in the window: each is shown in its image, and set right with one key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from tests.widgets.data_window import (
    DataWindow,
    annotated,
    square_mask,
    uuids_on_disk,
    write_image,
)
from tests.widgets.review_window import HW, SQUARES, TABLE, squares, use_engine

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.store import Dataset, Fault
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.draft import EditError
from napari_deeppixel.training.mistake import Mistake, MistakeAnswer, MistakeKind, hash_of
from napari_deeppixel.training.mistakes_file import MistakeList, load_mistakes, save_mistakes
from napari_deeppixel.viewer.suggestion import SUGGESTION_NAME, outlines_yx

FIXED, DISMISSED, OPEN = MistakeAnswer.FIXED, MistakeAnswer.DISMISSED, MistakeAnswer.OPEN
SOURCE = "squares@0123456789ab"


def mistake(kind: MistakeKind, name: str, file_name: str = "1.png", **others: Any) -> Mistake:
    """Return a mistake about one of the squares."""
    mask = square_mask(name)
    is_missing = kind is MistakeKind.MISSING
    values: dict[str, Any] = {
        "file_name": file_name,
        "plane": (),
        "kind": kind,
        "reason": f"this is about {name}",
        "severity": 0.9,
        "uuid": "" if is_missing else name,
        "box_xyxy": mask.box_xyxy,
        "image_hw": HW,
        "mask": mask if is_missing else None,
        "score": 0.9 if is_missing else float("nan"),
        "source": SOURCE if is_missing else "",
        "category": "debris" if is_missing else "",
        "mask_hash": "" if is_missing else hash_of(mask),
    }
    return Mistake(**(values | others))


def rectangle(y: int, x: int, height: int, width: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((height, width), np.bool_), y=y, x=x)


class MistakesWindow(DataWindow):
    """A window with a dataset: 1.png holds a and b, 2.png holds a; all complete."""

    def __init__(self, qtbot: Any, viewer: Any, folder: Path, **others: Any) -> None:
        super().__init__(qtbot, viewer, **others)
        self.dataset = Dataset.create(folder / "set", categories=TABLE)
        for number, names in ((1, ("a", "b")), (2, ("a",))):
            path = write_image(folder / f"{number}.png", number)
            planes = [annotated(*names)]
            self.dataset.add_file(path, planes=planes, state=ImageState.COMPLETE)
        self.path = folder / "mistakes.json"
        self.panel = self.data.mistakes

    def write(self, *mistakes: Mistake) -> None:
        found = MistakeList(mistakes=mistakes, dataset=str(self.dataset.path), model=SOURCE)
        save_mistakes(self.path, found)

    def begin(self, *mistakes: Mistake) -> None:
        """Open a list, and wait until its first mistake is shown."""
        self.write(*mistakes)
        self.data.open_mistakes(self.path)
        self.arrive()

    def arrive(self) -> None:
        """Wait until nothing is under way any more."""
        panel, review = self.panel, self.dock.review
        self.settle()
        self.wait(lambda: panel._waiting is None and panel._wanted is None)
        self.settle()
        current = self.switcher.current
        assert current is not None
        self.wait(lambda: self.journals.state(current.layer) is not None)
        self.wait(lambda: not review.steps.is_running)

    def key(self, key: str) -> None:
        """Press a key on the active layer, with the Review tab open."""
        self.dock.tabs.setCurrentWidget(self.dock.review)
        layer = self.viewer.layers.selection.active
        layer.keymap[coerce_keybinding(key)](layer)
        self.arrive()

    @property
    def selected(self) -> list[str]:
        return [uuid for _, uuid in self.dock.review.tools.selected]

    @property
    def title(self) -> str:
        return str(self.find("mistakes.title").text())

    @property
    def reason(self) -> str:
        return str(self.find("mistakes.reason").text())

    @property
    def suggested(self) -> list[list[float]]:
        """Corners (y, x), lowest and highest, of what the suggestion shows; none if nothing."""
        if SUGGESTION_NAME not in self.viewer.layers:
            return []
        points = self.viewer.layers[SUGGESTION_NAME].data[:, 0]
        return [points.min(axis=0).tolist(), points.max(axis=0).tolist()] if len(points) else []

    def answers(self) -> list[MistakeAnswer]:
        """Return what the file says."""
        self.panel.walk.save_here()
        return [each.answer for each in load_mistakes(self.path).mistakes]


@pytest.fixture
def window(qtbot: Any, tmp_path: Path) -> Iterator[MistakesWindow]:
    made = MistakesWindow(qtbot, ViewerModel(), tmp_path)
    yield made
    made.dock.close()


def test_opening_a_list_opens_its_dataset_the_image_of_the_worst_and_selects_the_instance(
    window: MistakesWindow,
) -> None:
    window.begin(
        mistake(MistakeKind.SPURIOUS, "a", "2.png"),
        mistake(MistakeKind.SPURIOUS, "b"),
    )
    assert window.dock.datasets.dataset.path == window.dataset.path
    assert window.open_id == "2.png"
    assert window.selected == ["a"]
    assert window.reason == "This is about a."
    assert window.title == "Label mistakes: nothing there in 2.png (0 of 2 seen to)"
    assert window.panel.isVisibleTo(window.dock.review)
    assert window.dock.tabs.currentWidget() is window.dock.review


def test_the_train_tab_opens_the_list_of_its_run(window: MistakesWindow) -> None:
    window.write(mistake(MistakeKind.SPURIOUS, "b"))
    window.dock.train.mistakes_wanted.emit(window.path)
    window.arrive()
    assert window.selected == ["b"]


def test_n_opens_the_image_of_the_next_mistake_and_shift_n_goes_back(
    window: MistakesWindow,
) -> None:
    window.begin(
        mistake(MistakeKind.SPURIOUS, "b"),
        mistake(MistakeKind.SPURIOUS, "a", "2.png"),
    )
    window.key("N")
    assert (window.open_id, window.selected) == ("2.png", ["a"])
    window.key("Shift-N")
    assert (window.open_id, window.selected) == ("1.png", ["b"])


def test_what_was_done_is_saved_before_the_next_image_opens(window: MistakesWindow) -> None:
    window.begin(
        mistake(MistakeKind.MISSING, "c"),
        mistake(MistakeKind.SPURIOUS, "a", "2.png"),
    )
    window.draw(30, 60)
    window.key("N")
    assert window.open_id == "2.png"
    assert len(uuids_on_disk(window.dataset, "1.png")) == 3


def test_a_missing_object_is_suggested_and_g_adds_it_as_one_step(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.MISSING, "c"), mistake(MistakeKind.SPURIOUS, "b"))
    assert window.selected == []
    # half a pixel round the square: rows 40 to 49, columns 10 to 19
    low, high = window.suggested
    assert low == pytest.approx([39.5, 9.5], abs=0.51)
    assert high == pytest.approx([49.5, 19.5], abs=0.51)
    window.key("G")
    (new,) = [i for i in window.session.visible(()) if i.uuid not in ("a", "b")]
    assert new.mask.equals(square_mask("c"))
    assert new.state is InstanceState.ACCEPTED
    assert (new.source, new.score) == (SOURCE, 0.9)
    assert window.session.categories.categories[1].id == new.category_id
    # and on to the next
    assert window.selected == ["b"]
    assert window.suggested == []
    assert window.answers() == [FIXED, OPEN]
    assert window.session.undo() == "add a missed instance"
    assert len(window.session.visible(())) == 2
    assert window.answers() == [OPEN, OPEN]
    window.session.redo()
    assert window.answers() == [FIXED, OPEN]


def test_j_dismisses_a_suggestion_and_changes_nothing(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.MISSING, "c"))
    window.key("J")
    assert len(window.session.plane(())) == 2
    assert window.answers() == [DISMISSED]
    assert window.reason == "No mistake is left in this list."


def test_the_models_outline_is_taken_with_shift_g_as_one_step(window: MistakesWindow) -> None:
    mask = rectangle(10, 40, 12, 14)
    window.begin(mistake(MistakeKind.OUTLINE, "b", mask=mask))
    assert window.suggested[1] == pytest.approx([21.5, 53.5], abs=0.51)
    window.key("Shift-G")
    instance = window.session.get((), "b")
    assert instance.mask.equals(mask)
    assert instance.state is InstanceState.EDITED
    assert window.answers() == [FIXED]
    window.session.undo()
    assert window.session.get((), "b").mask.equals(square_mask("b"))
    assert window.answers() == [OPEN]


def test_an_annotation_of_several_objects_becomes_these(window: MistakesWindow) -> None:
    left, right = rectangle(10, 40, 10, 5), rectangle(10, 45, 10, 5)
    window.begin(mistake(MistakeKind.OUTLINE, "b", mask=left, more_masks=(right,)))
    assert window.find("mistakes.take").text() == "Make it 2 objects"
    window.find("mistakes.take").click()
    boxes = sorted(i.box_xyxy for i in window.session.visible(()))
    assert boxes == [(10, 10, 20, 20), (40, 10, 45, 20), (45, 10, 50, 20)]
    window.session.undo()
    assert len(window.session.visible(())) == 2


def test_annotations_of_one_object_become_one(window: MistakesWindow) -> None:
    both = rectangle(10, 10, 10, 40)
    window.begin(mistake(MistakeKind.OUTLINE, "a", mask=both, more_uuids=("b",)))
    assert window.selected == ["a", "b"]
    window.key("Shift-G")
    assert window.session.plane(()).uuids == ("a",)
    assert window.session.get((), "a").mask.equals(both)


def test_an_annotation_keeps_its_pixels_where_a_suggestion_may_take_none(
    window: MistakesWindow,
) -> None:
    window.begin(mistake(MistakeKind.MISSING, "c", mask=rectangle(10, 15, 10, 10)))
    window.dock.review.view.set_overlap_rule(OverlapRule.KEEP)
    window.key("G")
    assert window.session.get((), "a").mask.equals(square_mask("a"))
    (new,) = [i for i in window.session.visible(()) if i.uuid not in ("a", "b")]
    assert new.box_xyxy == (20, 10, 25, 20)


def test_j_rejects_an_annotation_of_nothing_and_g_keeps_it(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "a"), mistake(MistakeKind.SPURIOUS, "b"))
    window.key("J")
    assert window.session.get((), "a").state is InstanceState.REJECTED
    assert window.selected == ["b"]
    window.key("G")
    assert window.session.get((), "b").state is InstanceState.ACCEPTED
    assert window.answers() == [FIXED, DISMISSED]


def test_shift_n_leads_back_to_a_rejection_and_g_takes_it_back(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "a"), mistake(MistakeKind.SPURIOUS, "b"))
    window.key("J")
    window.key("Shift-N")
    assert window.selected == ["a"]
    assert window.reason == "Answered: rejected. This is about a."
    assert window.find("mistakes.leave").isEnabled()
    window.key("G")
    assert window.session.get((), "a").state is InstanceState.ACCEPTED
    assert window.answers() == [DISMISSED, OPEN]
    assert window.selected == ["b"]
    window.key("Shift-N")
    assert window.reason == "Answered: it is right. This is about a."
    window.key("J")
    assert window.session.get((), "a").state is InstanceState.REJECTED
    assert window.answers() == [FIXED, OPEN]
    window.session.undo()
    window.session.undo()
    assert window.answers() == [FIXED, OPEN]
    window.session.undo()
    assert window.answers() == [OPEN, OPEN]


def test_a_rejection_in_an_image_that_has_left_is_taken_back_with_it_is_right(
    window: MistakesWindow,
) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "a", "2.png"), mistake(MistakeKind.SPURIOUS, "b"))
    window.find("mistakes.take").click()
    window.arrive()
    assert window.open_id == "1.png"
    assert window.answers() == [FIXED, OPEN]
    window.key("Shift-N")
    assert (window.open_id, window.selected) == ("2.png", ["a"])
    assert window.session.get((), "a").state is InstanceState.REJECTED
    window.find("mistakes.leave").click()
    window.arrive()
    assert window.open_id == "1.png"
    assert window.answers() == [DISMISSED, OPEN]
    (plane,) = window.dataset.load("2.png").planes
    assert plane.instances.states == (InstanceState.ACCEPTED,)


def test_shift_n_leads_back_from_the_end_of_the_list(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "a"), mistake(MistakeKind.SPURIOUS, "b"))
    window.key("N")
    window.key("J")
    window.key("J")
    assert window.reason == "No mistake is left in this list."
    window.key("Shift-N")
    assert window.selected == ["a"]
    window.key("Shift-N")
    assert window.selected == ["b"]


def test_the_way_back_leads_past_what_was_never_shown(window: MistakesWindow) -> None:
    window.begin(
        mistake(MistakeKind.SPURIOUS, "a"),
        mistake(MistakeKind.SPURIOUS, "c", "2.png", uuid="gone"),
        mistake(MistakeKind.SPURIOUS, "b"),
    )
    window.key("J")
    assert window.answers() == [FIXED, FIXED, OPEN]
    assert window.selected == ["b"]
    window.key("Shift-N")
    assert (window.open_id, window.selected) == ("1.png", ["a"])


def test_an_object_that_was_added_can_be_refused_and_added_again(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.MISSING, "c"), mistake(MistakeKind.SPURIOUS, "b"))
    window.key("G")
    window.key("Shift-N")
    (new,) = [i for i in window.session.visible(()) if i.uuid not in ("a", "b")]
    assert window.selected == [new.uuid]
    assert window.suggested == []
    assert window.reason == "Answered: set right. This is about c."
    window.find("mistakes.leave").click()
    assert window.session.get((), new.uuid).state is InstanceState.REJECTED
    assert window.answers() == [DISMISSED, OPEN]
    window.key("Shift-N")
    assert window.reason == "Answered: no object. This is about c."
    window.key("G")
    assert window.session.get((), new.uuid).state is InstanceState.ACCEPTED
    assert len(window.session.plane(())) == 3
    assert window.answers() == [FIXED, OPEN]
    window.session.undo()
    assert window.answers() == [DISMISSED, OPEN]


def test_what_was_rejected_can_get_the_models_category_instead_as_one_step(
    window: MistakesWindow,
) -> None:
    window.begin(
        mistake(MistakeKind.CATEGORY, "a", category="debris"), mistake(MistakeKind.SPURIOUS, "b")
    )
    window.key("J")
    window.key("Shift-N")
    window.key("Shift-G")
    (debris,) = [c.id for c in window.session.categories.categories if c.name == "debris"]
    instance = window.session.get((), "a")
    assert (instance.category_id, instance.state) == (debris, InstanceState.EDITED)
    assert window.answers() == [FIXED, OPEN]
    window.session.undo()
    assert window.session.get((), "a").state is InstanceState.REJECTED


def test_it_is_right_about_an_outline_that_was_taken_keeps_it_as_set_right(
    window: MistakesWindow,
) -> None:
    mask = rectangle(10, 40, 12, 14)
    window.begin(mistake(MistakeKind.OUTLINE, "b", mask=mask), mistake(MistakeKind.SPURIOUS, "a"))
    window.key("Shift-G")
    window.key("Shift-N")
    window.key("G")
    assert window.session.get((), "b").mask.equals(mask)
    assert window.answers() == [FIXED, OPEN]
    window.key("Shift-N")
    window.key("Shift-G")
    assert window.selected == ["a"]


def test_keys_do_nothing_while_the_next_image_opens(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "b"), mistake(MistakeKind.MISSING, "c", "2.png"))
    review, session = window.dock.review, window.session
    review.go(1)
    assert window.reason == "opening 2.png …"
    for _ in range(2):
        for state in (InstanceState.ACCEPTED, InstanceState.REJECTED, InstanceState.UNSURE):
            review.decide(state)
        review.ask_again()
        assert not window.find("mistakes.take").isEnabled()
        # the second time without the image that is left
        window.wait(lambda: window.open_id != "1.png" or not window.switcher.is_busy)
    window.arrive()
    assert window.open_id == "2.png"
    assert not session.history.top
    assert len(window.session.plane(())) == 1
    assert window.answers() == [OPEN, OPEN]
    assert window.suggested


def test_a_mistake_is_not_answered_in_another_image_that_was_opened(
    window: MistakesWindow,
) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "a"), mistake(MistakeKind.SPURIOUS, "b"))
    window.open("2.png")
    assert window.reason == "This mistake is in 1.png: press Show it, or N for the next."
    assert not window.find("mistakes.take").isVisibleTo(window.panel)
    assert not window.find("mistakes.leave").isEnabled()
    window.dock.review.tools.select([((), "a")])
    for key in ("J", "G", "Shift-G"):
        window.key(key)
    window.panel.dismiss()
    assert not window.session.history.top
    assert window.answers() == [OPEN, OPEN]
    window.find("mistakes.there").click()
    window.arrive()
    assert (window.open_id, window.selected) == ("1.png", ["a"])
    assert window.reason == "This is about a."
    assert not window.find("mistakes.there").isVisibleTo(window.panel)
    window.key("J")
    assert window.answers() == [FIXED, OPEN]


def test_n_goes_on_from_another_image_that_was_opened(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "a"), mistake(MistakeKind.SPURIOUS, "b"))
    window.open("2.png")
    window.key("N")
    assert (window.open_id, window.selected) == ("1.png", ["b"])


def test_a_suggestion_is_shown_on_its_plane_alone(window: MistakesWindow) -> None:
    path = window.path.parent / "stack.tif"
    planes = np.stack([squares(name) for name in SQUARES])
    tifffile.imwrite(path, planes, photometric="minisblack")
    window.dataset.add_file(path)
    missing = mistake(MistakeKind.MISSING, "b", "stack.tif", plane=(1,))
    window.begin(missing)
    low = pytest.approx([9.5, 39.5], abs=0.51)
    assert window.suggested[0] == low
    window.view.planes.show((2,))
    assert window.suggested == []
    window.view.planes.show((1,))
    assert window.suggested[0] == low


def test_a_wrong_category_becomes_the_models(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.CATEGORY, "a", category="debris"))
    assert window.find("mistakes.take").text() == "Make it debris"
    window.key("Shift-G")
    (debris,) = [c.id for c in window.session.categories.categories if c.name == "debris"]
    assert window.session.get((), "a").category_id == debris
    assert window.answers() == [FIXED]


def test_a_long_category_does_not_widen_the_window(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.CATEGORY, "a", category="debris"))
    width = window.dock.minimumSizeHint().width()
    window.begin(mistake(MistakeKind.CATEGORY, "a", category="apoptotic body " * 9))
    assert window.panel.isVisibleTo(window.dock.review)
    assert window.dock.minimumSizeHint().width() == width
    assert "apoptotic body" in window.find("mistakes.take").toolTip()


def test_a_decision_about_another_instance_is_no_answer(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "a"))
    window.dock.review.tools.select([((), "b")])
    window.key("J")
    assert window.session.get((), "b").state is InstanceState.REJECTED
    assert window.session.get((), "a").state is InstanceState.ACCEPTED
    assert window.answers() == [OPEN]


def test_a_decision_with_nothing_selected_is_about_the_mistake(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.SPURIOUS, "a"), mistake(MistakeKind.SPURIOUS, "b"))
    window.dock.review.tools.select([])
    window.key("J")
    assert window.session.get((), "a").state is InstanceState.REJECTED
    assert window.answers() == [FIXED, OPEN]


def test_an_annotation_that_is_gone_is_said_on_the_way_back(window: MistakesWindow) -> None:
    gone = mistake(MistakeKind.SPURIOUS, "c", uuid="gone")
    window.begin(gone, mistake(MistakeKind.SPURIOUS, "b"))
    assert window.selected == ["b"]
    window.key("Shift-N")
    assert window.selected == []
    assert window.reason == "Answered: set right. This is about c."
    with pytest.raises(EditError, match="gone meanwhile"):
        window.dock.review.decide(InstanceState.ACCEPTED)
    assert window.answers() == [FIXED, OPEN]


def test_what_changed_since_the_list_was_made_is_passed_over_and_kept_as_fixed(
    window: MistakesWindow,
) -> None:
    window.begin(
        mistake(MistakeKind.OUTLINE, "a", mask=rectangle(10, 10, 12, 12), mask_hash="other"),
        mistake(MistakeKind.SPURIOUS, "c", uuid="gone"),
        # somebody annotated it meanwhile
        mistake(MistakeKind.MISSING, "b"),
        mistake(MistakeKind.SPURIOUS, "b"),
    )
    assert window.selected == ["b"]
    assert window.answers()[0] is FIXED
    assert window.answers()[3] is OPEN


def test_answers_survive_a_restart(window: MistakesWindow, qtbot: Any) -> None:
    window.begin(mistake(MistakeKind.MISSING, "c"), mistake(MistakeKind.SPURIOUS, "b"))
    window.key("J")
    window.dock.close()
    again = DataWindow(qtbot, ViewerModel())
    again.data.open_mistakes(window.path)
    again.settle()
    again.wait(lambda: again.data.mistakes.walk.current is not None)
    assert again.data.mistakes.walk.current.uuid == "b"
    assert again.data.mistakes.walk.found.num_open == 1
    again.settle()
    again.dock.close()


def test_a_suggestion_leaves_with_its_image_and_with_the_list(window: MistakesWindow) -> None:
    window.begin(mistake(MistakeKind.MISSING, "c"))
    assert window.suggested
    window.data.open_image("2.png")
    window.wait(lambda: window.open_id == "2.png" and not window.switcher.is_busy)
    assert window.suggested == []
    window.find("mistakes.close").click()
    assert SUGGESTION_NAME not in window.viewer.layers
    assert window.dock.review.guide is None
    assert not window.panel.isVisibleTo(window.dock.review)


def test_an_image_that_cannot_be_opened_is_said_and_n_goes_on(window: MistakesWindow) -> None:
    window.write(
        mistake(MistakeKind.SPURIOUS, "a", "nowhere.png"), mistake(MistakeKind.SPURIOUS, "b")
    )
    window.data.open_mistakes(window.path)
    window.wait(lambda: "nowhere.png" in window.reason and "Press N" in window.reason)
    window.panel.go(1)
    window.arrive()
    assert window.selected == ["b"]


def test_a_file_that_is_no_list_is_said(window: MistakesWindow, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    window.data.open_mistakes(tmp_path / "other.json")
    assert "no file of label mistakes" in window.status
    assert window.dock.review.guide is None


def test_the_model_of_the_detect_tab_looks_for_mistakes(
    window: MistakesWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_engine(monkeypatch)
    window.open_dataset(window.dataset)
    # with b and c annotated in it, a (brightness 250) is missing
    path = write_image(window.path.parent / "3.png", 3)
    planes = [annotated("b", "c", "hidden")]
    window.dataset.add_file(path, planes=planes, state=ImageState.COMPLETE)
    window.dataset.remove(["2.png"])
    window.find("data.find_mistakes").click()
    window.wait(lambda: window.panel.walk.found is not None)
    window.arrive()
    assert window.open_id == "3.png"
    current = window.panel.walk.current
    assert current.kind is MistakeKind.MISSING
    assert current.box_xyxy == (10, 10, 20, 20)
    assert (window.dataset.path / "mistakes.json").is_file()
    assert not [f for f in window.dataset.check() if isinstance(f, Fault)]


def test_outlines_run_half_a_pixel_round_the_pixels_and_round_holes() -> None:
    ring = np.ones((5, 6), np.bool_)
    ring[2, 2:4] = False
    outer, hole = sorted(
        outlines_yx(CroppedMask(pixels=ring, y=10, x=20)), key=lambda points: -len(points)
    )
    assert outer.min(axis=0).tolist() == [9.5, 19.5]
    assert outer.max(axis=0).tolist() == [14.5, 25.5]
    assert hole.min(axis=0).tolist() == [11.5, 21.5]
    assert hole.max(axis=0).tolist() == [12.5, 23.5]
    assert outer[0].tolist() == outer[-1].tolist()
