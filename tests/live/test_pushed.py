import threading

import pytest
from tests.live.scripted import image

from napari_deeppixel.live.pushed import PushedSource
from napari_deeppixel.live.source import SourceError, SourceInfo

INFO = SourceInfo(address="preview", label="preview", kind="layer")


def test_what_is_pushed_comes_out_newest_first_and_numbered() -> None:
    source = PushedSource(INFO)
    frames = source.frames()
    source.push(image(1))
    source.push(image(2))
    first = next(frames)
    source.push(image(3))
    second = next(frames)
    assert [(f.number, int(f.pixels[0, 0])) for f in (first, second)] == [(0, 2), (1, 3)]


def test_it_ends_with_the_reason_it_is_given() -> None:
    source = PushedSource(INFO)
    source.end(SourceError("the layer is gone"))
    with pytest.raises(SourceError, match="the layer is gone"):
        next(source.frames())


def test_an_interrupt_ends_a_wait() -> None:
    source = PushedSource(INFO)
    threading.Timer(0.02, source.interrupt).start()
    assert list(source.frames()) == []
