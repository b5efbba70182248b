"""How the journal writes instances, categories and outlines: as JSON."""

import base64
import json
import math
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask

# smaller ones do not get smaller: a packed 20 x 20 mask has 50 bytes, zlib's frame alone 11
_LEAST_BYTES_TO_COMPRESS = 64


def _plain(value: Any) -> Any:  # Any: all that nobody has cast
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON")


# made once: `json.dumps` makes one for each call
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=_plain)


def to_json(value: Any) -> bytes:  # Any: all that JSON can say
    """Return compact JSON, in ASCII, so that no line break lies inside."""
    return _ENCODER.encode(value).encode("ascii")


def encode_instance(instance: Instance) -> bytes:
    """Return everything of an instance as JSON."""
    return to_json(values_of(instance))


def values_of(instance: Instance) -> dict[str, Any]:
    """Return everything of an instance, for JSON."""
    return {**values_but_mask(instance), "mask": _encode_mask(instance.mask)}


def values_but_mask(instance: Instance) -> dict[str, Any]:
    """Return all that an instance has but its mask, for JSON."""
    values: dict[str, Any] = {
        "uuid": instance.uuid,
        "handle": int(instance.handle),
        "category": int(instance.category_id),
        "state": instance.state.value,
        "source": instance.source,
    }
    if not math.isnan(instance.score):
        values["score"] = float(instance.score)
    if not math.isnan(instance.edge_uncertainty):
        values["edge"] = float(instance.edge_uncertainty)
    if instance.level:
        values["level"] = int(instance.level)
    box = [None if math.isnan(value) else float(value) for value in instance.predicted_box_xyxy]
    if any(value is not None for value in box):
        values["box"] = box
    return values


def decode_instance(values: dict[str, Any]) -> Instance:
    """Return an instance from its JSON object."""
    return Instance(mask=_decode_mask(values["mask"]), **fields_but_mask(values))


def fields_but_mask(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an instance from its JSON object, without its mask."""
    return {
        "score": values.get("score", math.nan),
        "category_id": values["category"],
        "handle": values["handle"],
        "uuid": values["uuid"],
        "state": InstanceState(values["state"]),
        "source": values["source"],
        "predicted_box_xyxy": tuple(
            math.nan if value is None else value for value in values.get("box", [None] * 4)
        ),
        "edge_uncertainty": values.get("edge", math.nan),
        "level": values.get("level", 0),
    }


def _encode_mask(mask: CroppedMask) -> dict[str, Any]:
    packed = np.packbits(mask.pixels).tobytes()
    key = "bits"
    if len(packed) >= _LEAST_BYTES_TO_COMPRESS:
        # level 1: on masks, level 6 is hardly smaller and several times slower
        smaller = zlib.compress(packed, 1)
        if len(smaller) < len(packed):
            packed, key = smaller, "zlib"
    height, width = mask.pixels.shape
    box = [mask.y, mask.x, height, width]
    return {"yxhw": box, key: base64.b64encode(packed).decode("ascii")}


def _decode_mask(values: dict[str, Any]) -> CroppedMask:
    y, x, height, width = values["yxhw"]
    if "zlib" in values:
        packed = zlib.decompress(base64.b64decode(values["zlib"]))
    else:
        packed = base64.b64decode(values["bits"])
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=height * width)
    return CroppedMask(pixels=bits.reshape(height, width).astype(np.bool_), y=y, x=x)


def encode_categories(table: CategoryTable) -> dict[str, Any]:
    """Return a table of categories as a JSON object."""
    return {
        "categories": [[c.id, c.name, c.color, *filter(None, [c.key])] for c in table.categories],
        "class_indices": list(table.class_indices),
    }


def decode_categories(values: dict[str, Any]) -> CategoryTable:
    """Return a table of categories from its JSON object."""
    return CategoryTable(
        categories=tuple(
            Category(id=id_, name=name, color=color, key="".join(key))
            for id_, name, color, *key in values["categories"]
        ),
        class_indices=tuple(values["class_indices"]),
    )


def decode_outlines(values: Iterable[Any]) -> tuple[Outline, ...]:
    """Return closed outlines from their JSON lists."""
    return tuple(tuple((float(x), float(y)) for x, y in outline) for outline in values)
