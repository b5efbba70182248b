"""Whether two snapshots of a session hold the same, field by field and bit for bit."""

from dataclasses import fields

import numpy as np

from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits.session import SessionSnapshot


def assert_same_snapshot(now: SessionSnapshot, then: SessionSnapshot) -> None:
    """Check that a session is back where it was.

    Only handles may have gone on, as they are never given twice: an instance that had none may
    have one now, and the largest may have grown. A plane that lost its last instance counts as
    one that never had any.
    """
    for name in ("image_hw", "categories", "score", "min_area"):
        assert getattr(now, name) == getattr(then, name), name
    assert dict(now.regions) == dict(then.regions)
    assert now.max_handle >= then.max_handle
    planes_now = {index: found for index, found in now.instances.items() if found}
    planes_then = {index: found for index, found in then.instances.items() if found}
    assert planes_now.keys() == planes_then.keys()
    for index, found in planes_now.items():
        assert [i.uuid for i in found] == [i.uuid for i in planes_then[index]]
        for one, other in zip(found, planes_then[index], strict=True):
            assert_same_instance(one, other)


def assert_same_instance(now: Instance, then: Instance) -> None:
    """Check that two instances agree in every field; where one had no handle, any will do."""
    assert now.mask.equals(then.mask)
    for field in fields(Instance):
        one, other = getattr(now, field.name), getattr(then, field.name)
        if field.name == "handle":
            assert other in (0, one)
        elif isinstance(one, float | tuple):
            assert np.array_equal(one, other, equal_nan=True), field.name
        elif field.name != "mask":
            assert one == other, field.name
