"""Whatever is in a file, a reader ends in annotations or in an error that people understand."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.dataset.hostile_files import CORPUS, HostileTarget

from napari_deeppixel.dataset.formats.registry import all_formats

FORMATS = [each.name for each in all_formats() if each.read is not None and each.write is not None]


@pytest.fixture(scope="module", params=FORMATS)
def target(request: pytest.FixtureRequest) -> Iterator[HostileTarget]:
    with tempfile.TemporaryDirectory() as folder:
        yield HostileTarget(request.param, Path(folder))


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw bytes like the given ones: some replaced, taken out, doubled, or the end cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        kind = draw(st.sampled_from(["replace", "digits", "remove", "double", "cut"]))
        length = draw(st.integers(1, 12))
        if kind == "replace":
            changed[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "digits":
            changed[place : place + 1] = draw(
                st.sampled_from([b"9" * 20, b"-1", b"NaN", b"1e400", b'"', b"[]", b"null", b"../"])
            )
        elif kind == "remove":
            del changed[place : place + length]
        elif kind == "double":
            changed[place:place] = changed[place : place + length]
        else:
            del changed[place:]
    return bytes(changed)


def test_the_unchanged_files_are_read(target: HostileTarget) -> None:
    assert target.files
    assert target.read_with(target.files[0], target.content(target.files[0])) == 1


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_changed_files_are_read_or_refused(target: HostileTarget, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(target.files))
    target.read_with(file, data.draw(changed_bytes(target.content(file))))


def test_files_that_broke_a_reader_once_do_not_any_more(target: HostileTarget) -> None:
    for path in sorted((CORPUS / target.format_name).glob("*")):
        number, _, name = path.name.partition("-")
        assert number.isdecimal()
        (file,) = [each for each in target.files if each.name == name][:1]
        target.read_with(file, path.read_bytes())
