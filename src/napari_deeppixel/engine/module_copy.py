"""Copies of torch modules that share all but some of their parts."""

import copy
from typing import Any


def with_parts(module: Any, as_class: type | None = None, **parts: Any) -> Any:
    """Return a copy of a module with other parts, and of another class if one is given.

    The copy has the settings of the module, which stays as it is; the other parts are the same
    objects.
    """
    copied = copy.copy(module)
    copied.__class__ = as_class or type(module)
    copied._modules = module._modules | parts
    return copied
