"""Names of models in the library: what every file system can store."""

import re
import unicodedata

from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.engine.catalogue import CATALOGUE

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")
# stands for the model in use wherever a model is named
USED = "used"
# ``train --from scratch``: random weights
_SCRATCH = "scratch"

# separators and wildcards of any system, control characters, and halves of characters
_ODD = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')
# names that Windows gives to devices, with any ending
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# of 255 that a name may have: the ending, and what is put round it while it is written
_MAX_BYTES = 120

RESERVED = (USED, _SCRATCH, *(entry.name for entry in CATALOGUE))


def clean_name(text: str) -> str:
    """Return a text as the name of a model: storable anywhere, no path, no option, no ending.

    Raises
    ------
    WeightsError
        If nothing is left.
    """
    name = " ".join(_ODD.sub("_", unicodedata.normalize("NFC", text)).split())
    for suffix in WEIGHTS_SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    name = name.encode()[:_MAX_BYTES].decode(errors="ignore").rstrip(" .")
    if name.startswith((".", "-")):
        # a hidden file, or what the command line takes for an option
        name = f"_{name[1:]}"
    if _DEVICE_NAME.fullmatch(name):
        name = f"_{name}"
    if not name.strip("_ "):
        raise WeightsError(f"{text!r} is no name for a model: give it some letters or digits")
    return name


def same_name(one: str, other: str) -> bool:
    """Whether two names are one to people, and to systems that do not tell cases apart."""
    return _folded(one) == _folded(other)


def is_reserved(name: str) -> bool:
    """Whether a name already stands for a model that is not in the library."""
    return any(same_name(name, known) for known in RESERVED)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
