"""A made-up camera: the same for a seed, true masks on its pixels, faults on demand."""

import itertools
import threading
import time
from typing import Any

import numpy as np
import pytest

from napari_deeppixel.live.source import (
    Frame,
    SourceError,
    SourceFault,
    SourceOptions,
)
from napari_deeppixel.live.synthetic import (
    DiscScene,
    SyntheticFaults,
    SyntheticScene,
    SyntheticSource,
)

SMALL = SourceOptions(size_hw=(60, 90), fps=20, timeout_s=0.05)


def unpaced(*, seed: int = 0, options: SourceOptions = SMALL, **faults: Any) -> SyntheticSource:
    return SyntheticSource(
        options,
        scene=SyntheticScene(seed=seed),
        faults=SyntheticFaults(**faults),
        is_paced=False,
    )


def take(source: SyntheticSource, n: int) -> list[Frame]:
    source.open()
    frames = list(itertools.islice(source.frames(), n))
    source.close()
    return frames


def test_by_default_it_is_480_by_640_grey_8_bits_at_30_fps() -> None:
    source = SyntheticSource(is_paced=False)
    info = source.open()
    assert (info.image_hw, info.fps, source.info.kind) == ((480, 640), 30.0, "synthetic")
    assert source.info.is_live
    frame = next(source.frames())
    assert (frame.pixels.shape, frame.pixels.dtype) == ((480, 640), np.uint8)


def test_frames_count_from_0_and_carry_the_time_they_are_due() -> None:
    frames = take(unpaced(), 3)
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert [frame.device_s for frame in frames] == [0.0, 0.05, 0.1]
    assert {frame.stream for frame in frames} == {1}


def test_the_same_seed_gives_the_same_frames_and_another_one_others() -> None:
    first, again, other = (take(unpaced(seed=seed), 4)[3].pixels for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_true_masks_cover_the_bright_pixels_and_none_else() -> None:
    source = unpaced(options=SourceOptions(size_hw=(120, 200)))
    for frame in take(source, 60)[::10]:
        truth = source.truth(frame.number)
        # background below 60, discs above 120
        bright = frame.pixels > 90
        marked = truth.label_image() > 0
        assert bright[marked].all()
        # what shows less than a fifth of itself is not in the truth
        assert np.count_nonzero(bright & ~marked) < 0.1 * np.count_nonzero(bright)


def test_true_masks_do_not_overlap_though_objects_do() -> None:
    source = SyntheticSource(
        SMALL, scene=SyntheticScene(num_objects=40, diameters=(0.2, 0.3)), is_paced=False
    )
    for number in range(0, 40, 10):
        truth = source.truth(number)
        assert sum(truth.areas) == np.count_nonzero(truth.label_image())


def test_handles_and_uuids_stay_with_the_object() -> None:
    source = unpaced()
    uuid_of: dict[int, set[str]] = {}
    for number in range(0, 200, 10):
        for instance in source.truth(number):
            uuid_of.setdefault(instance.handle, set()).add(instance.uuid)
    assert len(uuid_of) > 5
    assert all(len(uuids) == 1 for uuids in uuid_of.values())


def test_an_object_moves_no_further_than_its_speed_allows() -> None:
    discs = DiscScene(SyntheticScene(speeds=(0.1, 0.2)), (100, 300))
    step = np.linalg.norm(discs.centres_yx(1.01) - discs.centres_yx(1.0), axis=1)
    # 10 to 20 px a second; one that turns back in between may go less far
    assert (step <= 0.2 + 1e-9).all()
    assert np.median(step) >= 0.1


def test_objects_leave_and_come_back() -> None:
    source = unpaced(options=SourceOptions(size_hw=(60, 90), fps=10))
    handles = [set(source.truth(number).handles.tolist()) for number in range(300)]
    returned = 0
    for handle in set.union(*handles):
        seen = np.flatnonzero([handle in present for present in handles])
        returned += bool((np.diff(seen) > 1).any())
    assert returned >= 3


def test_it_fails_at_the_frame_and_with_the_fault_that_was_asked_for() -> None:
    source = unpaced(error_at=2, error_fault=SourceFault.BUSY)
    source.open()
    frames = source.frames()
    assert [next(frames).number, next(frames).number] == [0, 1]
    with pytest.raises(SourceError, match="frame 2") as caught:
        next(frames)
    assert caught.value.fault is SourceFault.BUSY


def test_the_second_opening_has_no_fault_and_another_stream_number() -> None:
    source = unpaced(error_at=0)
    source.open()
    with pytest.raises(SourceError):
        next(source.frames())
    source.close()
    assert [(f.number, f.stream) for f in take(source, 2)] == [(0, 2), (1, 2)]


def test_it_cannot_be_opened_as_often_as_was_asked_for() -> None:
    source = unpaced(open_fault=SourceFault.DENIED, num_openings=2)
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            source.open()
        assert caught.value.fault is SourceFault.DENIED
    assert source.open().image_hw == (60, 90)


def test_a_closed_source_gives_no_frame() -> None:
    source = unpaced()
    with pytest.raises(SourceError, match="open"):
        next(source.frames())


def test_the_size_changes_and_the_truth_with_it() -> None:
    source = unpaced(resize_at=1, resized_hw=(40, 50))
    assert [frame.image_hw for frame in take(source, 3)] == [(60, 90), (40, 50), (40, 50)]
    assert [source.truth(number).image_hw for number in (0, 1)] == [(60, 90), (40, 50)]
    assert source.truth(1, stream=2).image_hw == (60, 90)


def test_grey_becomes_rgb_and_8_bits_become_16() -> None:
    plain, rgb, deep = (
        take(unpaced(), 2)[1],
        *[take(unpaced(**{name: 1}), 2)[1] for name in ("rgb_at", "uint16_at")],
    )
    assert rgb.pixels.shape == (60, 90, 3)
    assert all(np.array_equal(rgb.pixels[..., c], plain.pixels) for c in range(3))
    assert deep.pixels.dtype == np.uint16
    assert np.array_equal(deep.pixels, plain.pixels.astype(np.uint16) * 257)


def test_it_ends_as_a_file_does() -> None:
    assert len(take(unpaced(end_at=3), 10)) == 3


def test_a_pause_delays_one_frame() -> None:
    source = unpaced(pause_at=1, pause_s=0.03)
    first, second, third = take(source, 3)
    assert second.grabbed_s - first.grabbed_s >= 0.03
    assert [f.number for f in (first, second, third)] == [0, 1, 2]


def test_a_pause_beyond_the_timeout_is_an_error_after_the_timeout() -> None:
    source = unpaced(pause_at=0, pause_s=60)
    source.open()
    start_s = time.monotonic()
    with pytest.raises(SourceError) as caught:
        next(source.frames())
    assert caught.value.fault is SourceFault.TIMEOUT
    assert 0.05 <= time.monotonic() - start_s < 5


def test_paced_frames_never_come_before_their_time() -> None:
    source = SyntheticSource(SMALL)
    frames = take(source, 4)
    # at 20 fps the fourth frame is due after 150 ms
    assert frames[3].grabbed_s - frames[0].grabbed_s >= 0.14


@pytest.mark.parametrize(
    "source",
    [
        # the second frame is due in ten seconds, or after a pause, or at once
        SyntheticSource(SourceOptions(size_hw=(60, 90), fps=0.1)),
        unpaced(options=SourceOptions(size_hw=(60, 90)), pause_at=1, pause_s=4),
        unpaced(options=SourceOptions(size_hw=(60, 90)), pause_at=1, pause_s=60),
        unpaced(),
    ],
    ids=["paced", "pause", "pause beyond the timeout", "unpaced"],
)
def test_an_interrupt_ends_a_wait_at_once_and_the_next_opening_gives_frames(
    source: SyntheticSource,
) -> None:
    source.open()
    frames = source.frames()
    assert next(frames).number == 0
    timer = threading.Timer(0.02, source.interrupt)
    timer.start()
    start_s = time.monotonic()
    # what comes before the interrupt is not meant here
    assert all(frame.grabbed_s - start_s < 1 for frame in frames)
    assert time.monotonic() - start_s < 1
    timer.join()
    assert list(source.frames()) == []
    source.close()
    assert [frame.number for frame in take(source, 1)] == [0]
