"""Reads and writes XML that nobody vouches for."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.formats.hostile import MAX_SMALL_BYTES

# what expat raises besides its own error: encodings that Python does not know, or not so
_DAMAGED = (ParseError, DefusedXmlException, ValueError, LookupError, OverflowError)
# neither line breaks in names nor what XML cannot hold at all
_NOT_IN_XML = re.compile("[\x00-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def iterate_xml(path: Path) -> Iterator[tuple[str, Element]]:
    """Yield (``start`` or ``end``, element) as a file is read.

    Entities are refused, since a few lines of them can fill the memory.

    Raises
    ------
    AnnotationError
        If the file is missing, cut short, no XML, or has entities.
    """
    if not path.is_file():
        raise AnnotationError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            yield from _events(file)
    except _DAMAGED as error:
        raise AnnotationError(f"{path}: no readable XML ({error})") from error
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror or error})") from error


def _events(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    yield from defusedxml.ElementTree.iterparse(file, events=("start", "end"))


def read_xml(path: Path) -> Element:
    """Return the outermost element of a file.

    Raises
    ------
    AnnotationError
        As `iterate_xml`, or if the file is too large to describe a single image.
    """
    if path.is_file() and path.stat().st_size > MAX_SMALL_BYTES:
        raise AnnotationError(f"{path}: larger than {MAX_SMALL_BYTES:,} bytes, so it is not read")
    for _, element in iterate_xml(path):
        last = element
    return last


def xml_text(text: str, what: str) -> str:
    """Return a text that XML can hold as it is.

    Raises
    ------
    AnnotationError
        If it has control characters.
    """
    if _NOT_IN_XML.search(text):
        raise AnnotationError(f"{what} {text!r} has characters that XML cannot hold: rename it")
    return text
