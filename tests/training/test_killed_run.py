"""A run in a process of its own that is killed at random, again and again, loses nothing."""

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tests.training.datasets import CELLS, sample_of
from tests.training.runs import OPTIONS, assert_same_run, checkpoint, train

from napari_deeppixel.core.instance import InstanceSet

# a checkpoint after each step: many of the kills come while one is written
KILLED_OPTIONS = replace(OPTIONS, iterations=8, evaluate_every=2, checkpoint_every_s=0)
# without an object the latest weights are the best: they are written at each evaluation
EMPTY = sample_of(InstanceSet.empty((40, 40), CELLS), np.eye(40, dtype=np.uint8)[..., None])
KILLS = 4


def _train(path: Path) -> None:
    torch.set_num_threads(1)
    train(path, KILLED_OPTIONS, val=[EMPTY], resume=True)


def _saved_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def test_a_run_that_is_killed_at_random_ends_as_one_that_was_not(tmp_path: Path) -> None:
    # forked from a process that has torch loaded, and nothing running
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.runs"])
    rng = np.random.default_rng()
    killed, kills = tmp_path / "killed", 0
    for _ in range(KILLS):
        before = _saved_at(killed / "last.pt")
        process = context.Process(target=_train, args=(killed,))
        process.start()
        while process.is_alive() and _saved_at(killed / "last.pt") == before:
            time.sleep(0.01)
        # somewhere in the steps, evaluations and checkpoints that follow
        time.sleep(float(rng.uniform(0, 0.5)))
        kills += process.is_alive()
        process.kill()
        process.join()
    assert kills
    train(killed, KILLED_OPTIONS, val=[EMPTY], resume=True)
    train(tmp_path / "whole", KILLED_OPTIONS, val=[EMPTY])
    assert checkpoint(killed)["iteration"] == 8
    assert_same_run(killed, tmp_path / "whole")
