"""Lines of JSON and what they stand for."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from tests.core.strategies import assert_same_instances, category_tables, instance_sets
from tests.edits.made import NUCLEUS, drawn, square

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change, RegionsChange
from napari_deeppixel.edits.record import (
    CategoriesSet,
    MaskKept,
    SavedElsewhere,
    StepMissing,
    StepTaken,
    VisibilitySet,
    decode_record,
    encode_record,
    framed,
    replay,
    unframed,
)
from napari_deeppixel.edits.record_values import (
    decode_categories,
    decode_instance,
    encode_categories,
    encode_instance,
)
from napari_deeppixel.edits.saved_session import SavedSession
from napari_deeppixel.edits.session import AnnotationSession, Applied
from napari_deeppixel.edits.snapshot_file import (
    Snapshot,
    SnapshotError,
    read_snapshot,
    write_snapshot,
)

OUTLINE = ((0.0, 0.5), (4.0, 0.5), (4.0, 3.25))


@given(instance_sets())
def test_instance_comes_back_bit_for_bit(instances: InstanceSet) -> None:
    back = [decode_instance(json.loads(encode_instance(instance))) for instance in instances]
    assert_same_instances(instances.with_instances(back), instances)


def test_large_masks_of_all_kinds_come_back() -> None:
    rng = np.random.default_rng(0)
    for pixels in (np.ones((301, 203), np.bool_), rng.random((301, 203)) < 0.5):
        mask = CroppedMask.from_mask(pixels, y=7, x=9)
        assert mask is not None
        values = json.loads(encode_instance(drawn(mask)))
        assert decode_instance(values).mask.equals(mask)
        # 7.6 kB as bits, 10.2 kB in letters, a full rectangle next to nothing
        assert len(json.dumps(values)) < (600 if pixels.all() else 10_700)


def test_no_field_of_an_instance_is_forgotten() -> None:
    box = (0.5, 1.0, math.nan, 2.0)
    full = drawn(square(1, 2), score=0.25, predicted_box_xyxy=box, edge_uncertainty=0.5, level=7)
    others = {field.name for field in fields(Instance)} - {"mask"}
    back = decode_instance(json.loads(encode_instance(full)))
    assert {name: repr(getattr(back, name)) for name in others} == {
        name: repr(getattr(full, name)) for name in others
    }
    # a field that came later than this test, and was given its default above, shows here
    assert len(fields(Instance)) == 10


@given(category_tables())
def test_categories_come_back(table: CategoryTable) -> None:
    assert decode_categories(json.loads(json.dumps(encode_categories(table)))) == table


def test_line_is_json_and_each_changed_byte_is_noticed() -> None:
    line = framed(b'{"number":1}')
    assert json.loads(line)["record"] == {"number": 1}
    assert unframed(line) == b'{"number":1}'
    for place in range(len(line)):
        damaged = bytearray(line)
        damaged[place] ^= 1
        assert unframed(bytes(damaged)) is None
        assert unframed(line[:place]) is None


def test_step_comes_back_as_what_it_left_behind() -> None:
    after, gone = drawn(square(0, 0), handle=1), drawn(square(3, 3), handle=2)
    action = Action(
        name="schön",
        changes=(
            Change(index=(0, 3), before=None, after=after),
            Change(index=(0, 3), before=gone, after=None),
        ),
        regions=(RegionsChange(index=(1, 2), before=(), after=(OUTLINE,)),),
    )
    applied = Applied(kind="do", action=action, joins="one run")
    number, step = decode_record(b"".join(encode_record(applied, number=8)))
    assert isinstance(step, StepTaken)
    assert (number, step.kind, step.name, step.joins) == (8, "do", "schön", "one run")
    (index, uuid, first), second = step.changes
    assert (index, uuid, second) == ((0, 3), "uuid 1", ((0, 3), "uuid 2", None))
    assert first is not None
    assert first.mask.equals(after.mask)
    assert step.regions == (((1, 2), (OUTLINE,)),)


@pytest.mark.parametrize(
    "record",
    [
        VisibilitySet(score=0.1 + 0.2, min_area=7),
        CategoriesSet(categories=CategoryTable.from_names("a", "b")),
        SavedElsewhere(),
        StepMissing(name="draw", reason="no"),
    ],
)
def test_settings_come_back(
    record: VisibilitySet | CategoriesSet | SavedElsewhere | StepMissing,
) -> None:
    assert decode_record(b"".join(encode_record(record, number=3))) == (3, record)


def test_ten_thousand_changes_come_in_small_parts() -> None:
    one = Change(index=(), before=None, after=drawn(square(0, 0)))
    applied = Applied(kind="do", action=Action(name="run", changes=(one,) * 10_000))
    assert max(map(len, encode_record(applied, number=1))) < 20_000


def _session_of(number: int) -> AnnotationSession:
    session = AnnotationSession((6, 8), NUCLEUS)
    new = [drawn(square(0, 0), handle=n, uuid=f"uuid {n}") for n in range(1, number + 1)]
    session.apply(Action(name="draw", changes=tuple(_put(None, one).changes[0] for one in new)))
    return session


def test_state_of_ten_thousand_instances_is_written_once_with_their_uuids() -> None:
    session = _session_of(10_000)
    changes = [
        Change(
            index=(),
            before=one,
            after=replace(one, state=InstanceState.ACCEPTED, level=one.handle % 3),
        )
        for one in session.plane(())
    ]
    # one that is different lies in between, one is gone
    changes[5000] = replace(
        changes[5000], after=replace(changes[5000].after, source="me", score=0.5)
    )
    changes[7000] = replace(changes[7000], after=None)
    applied = Applied(kind="do", action=Action(name="accept", changes=tuple(changes)))
    parts = list(encode_record(applied, number=2))
    # an instance alone is 250 bytes; a uuid and its quotes here 13
    assert sum(map(len, parts)) < 160_000
    assert b"yxhw" not in b"".join(parts)
    _, step = decode_record(b"".join(parts))
    assert isinstance(step, StepTaken)
    assert [uuid for _, uuid, _ in step.changes] == [c.uuid for c in changes]
    replay(step, session)
    back = {one.uuid: one for one in session.plane(())}
    for change in changes:
        after = change.after
        assert (after is None) == (change.uuid not in back)
        if after is not None:
            assert repr(replace(back[change.uuid], mask=after.mask)) == repr(after)
            assert back[change.uuid].mask.equals(after.mask)


def test_step_on_an_instance_that_is_not_there_does_not_fit() -> None:
    kept = MaskKept(values={"state": InstanceState.ACCEPTED})
    step = StepTaken(kind="do", name="a", joins="", changes=(((), "x", kept),), regions=())
    with pytest.raises(ValueError, match="not there"):
        replay(step, AnnotationSession((6, 8), NUCLEUS))


def test_numbers_of_numpy_become_numbers_and_other_things_are_refused() -> None:
    odd = VisibilitySet(score=np.float32(0.5), min_area=np.int64(3))
    payload = b"".join(encode_record(odd, number=1))
    assert decode_record(payload) == (1, VisibilitySet(score=0.5, min_area=3))
    with pytest.raises(TypeError, match="set"):
        list(encode_record(VisibilitySet(score={1}, min_area=3), number=1))


def test_replayed_table_is_the_one_that_was_logged() -> None:
    session = AnnotationSession((6, 8), NUCLEUS)
    other = CategoryTable.from_names("renamed", "new")
    assert replay(CategoriesSet(categories=other), session).categories == other


def test_record_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind: 'merge'"):
        decode_record(b'{"number":1,"kind":"merge"}')


def _snapshot() -> Snapshot:
    session = AnnotationSession((6, 8), NUCLEUS)
    one = drawn(square(0, 0), handle=0)
    session.apply(Action(name="draw", changes=(Change(index=(), before=None, after=one),)))
    return Snapshot(saved=SavedSession.of(session), number=5, is_saved_elsewhere=True)


def test_snapshot_comes_back_with_its_history(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "a", _snapshot())
    back = read_snapshot(tmp_path / "a")
    assert (back.number, back.is_saved_elsewhere) == (5, True)
    session = back.saved.restored()
    (one,) = session.plane(())
    assert (one.handle, one.state, one.mask.area) == (1, InstanceState.DRAWN, 9)
    assert session.undo() == "draw"
    assert len(session.plane(())) == 0


def test_step_that_a_later_one_may_join_is_never_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_deeppixel.edits.snapshot_file._MAX_PAST_INSTANCES", 0)
    session = AnnotationSession((6, 8), NUCLEUS)
    session.apply(_put(None, drawn(square(0, 0))))
    session.apply(_put(session.get((), "uuid 1"), drawn(square(1, 1))), joins="drag")
    saved = Snapshot(saved=SavedSession.of(session), number=1)
    write_snapshot(tmp_path / "a", saved)
    back = read_snapshot(tmp_path / "a").saved.restored()
    back.apply(_put(back.get((), "uuid 1"), drawn(square(2, 2))), joins="drag")
    back.undo()
    assert back.plane(()).masks[0].box_xyxy == (0, 0, 3, 3)


def _put(before: Instance | None, after: Instance) -> Action:
    return Action(name="drag", changes=(Change(index=(), before=before, after=after),))


def test_cut_snapshot_and_one_of_a_newer_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_snapshot(path, _snapshot())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SnapshotError, match="damaged"):
            read_snapshot(path)
    monkeypatch.setattr("napari_deeppixel.edits.snapshot_file.FORMAT", 99)
    write_snapshot(path, replace(_snapshot(), number=1))
    monkeypatch.undo()
    with pytest.raises(SnapshotError, match="newer version"):
        read_snapshot(path)
