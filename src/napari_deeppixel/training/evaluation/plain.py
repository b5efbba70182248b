"""Dataclasses of numbers as JSON values and back, checked by their type hints."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast, get_args, get_origin, get_type_hints

# how COCO writes its figures
COCO_NAMES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "APs",
    "ap_medium": "APm",
    "ap_large": "APl",
    "ar": "AR",
}


def to_plain(value: Any, names: Mapping[str, str] = {}) -> Any:
    """Return a dataclass as JSON values; NaN becomes None.

    Parameters
    ----------
    value
        A dataclass, or what its fields hold.
    names
        Field → key, where these differ.
    """
    if is_dataclass(value):
        return {
            names.get(each.name, each.name): to_plain(getattr(value, each.name), names)
            for each in fields(value)
        }
    if isinstance(value, Mapping):
        return {_key(key): to_plain(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each, names) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _key(key: Any) -> str:
    return f"{key:g}" if isinstance(key, float) else str(key)


def from_plain(kind: Any, value: Any, names: Mapping[str, str] = {}) -> Any:
    """Return what `to_plain` wrote; fields that are missing take their defaults.

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise TypeError(f"expected an object, got {value!r:.60}")
        hints = get_type_hints(kind)
        keys = {each.name: names.get(each.name, each.name) for each in fields(kind)}
        values = {
            name: from_plain(hints[name], value[key], names)
            for name, key in keys.items()
            if key in value
        }
        return cast("Callable[..., Any]", kind)(**values)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {value!r:.60}")
        return tuple(from_plain(get_args(kind)[0], each, names) for each in value)
    if get_origin(kind) is dict:
        key_kind, value_kind = get_args(kind)
        return {key_kind(k): from_plain(value_kind, v, names) for k, v in value.items()}
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise TypeError(f"expected a number, got {value!r:.60}")
        return math.nan if value is None else float(value)
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r:.60}")
    return value
