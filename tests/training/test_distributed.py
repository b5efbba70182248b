"""Several processes come to the weights that one comes to."""

import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.runs import OPTIONS, TRAIN, VAL, checkpoint, start_of, train, weights_of

from napari_deeppixel.training.crops import crop_numbers
from napari_deeppixel.training.distributed import Processes
from napari_deeppixel.training.events import EndReason, Evaluated, FitEnded, StepEnded
from napari_deeppixel.training.fit import fit
from napari_deeppixel.training.run_folder import RunFolder

ONE = replace(OPTIONS, train_batch_norm=False, accumulate=2, iterations=4, evaluate_every=2)
EACH = replace(ONE, accumulate=1)


def test_processes_share_the_crops_that_one_has() -> None:
    alone = crop_numbers(3, ONE, Processes())
    shared = [crop_numbers(3, EACH, Processes(rank=rank, size=2)) for rank in (0, 1)]
    assert alone == [12, 13, 14, 15]
    assert shared == [[12, 13], [14, 15]]


def _train_as(rank: int, port: int, path: Path, stop_at: int | None = None) -> None:
    """Train as one of two processes that torchrun started."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    run = RunFolder(path)
    # the second one starts from other weights: it must take those of the first
    start = start_of()
    if rank == 1:
        with torch.no_grad():
            for parameter in start.model.parameters():
                parameter += 1
    for event in fit(start, TRAIN, VAL, run=run, options=EACH):
        if stop_at is not None and getattr(event, "iteration", 0) == stop_at and rank == 0:
            run.request_stop()


def _train_as_two(path: Path, stop_at: int | None = None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.runs"])
    both = [context.Process(target=_train_as, args=(rank, port, path, stop_at)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in both] == [0, 0]


def test_two_processes_come_to_the_weights_of_one(tmp_path: Path) -> None:
    alone = train(tmp_path / "one", ONE)
    _train_as_two(tmp_path / "two")
    torch.testing.assert_close(
        weights_of(tmp_path / "two"), weights_of(tmp_path / "one"), rtol=0, atol=1e-6
    )
    # they have moved much further than that
    begun = start_of().model.state_dict()["backbone.fpn.inner_blocks.0.0.weight"]
    moved = checkpoint(tmp_path / "two")["model"]["backbone.fpn.inner_blocks.0.0.weight"]
    assert (moved - begun).abs().max() > 3e-5
    together = RunFolder(tmp_path / "two").read_events()[0]
    assert [type(event) for event in together] == [type(event) for event in alone]
    for kind in (StepEnded, Evaluated):
        (one, *_), (two, *_) = (
            [event for event in events if isinstance(event, kind)] for events in (alone, together)
        )
        if isinstance(one, StepEnded) and isinstance(two, StepEnded):
            assert two.loss == pytest.approx(one.loss, abs=1e-5)


def test_two_processes_stop_together(tmp_path: Path) -> None:
    _train_as_two(tmp_path / "two", stop_at=2)
    ended = RunFolder(tmp_path / "two").read_events()[0][-1]
    assert isinstance(ended, FitEnded)
    assert (ended.iteration, ended.reason) == (2, EndReason.STOPPED)
