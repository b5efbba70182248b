"""Real processes that write at the same time, and that are killed while they do."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.dataset.folders import faults_of, new_dataset, write_image

from napari_deeppixel.dataset.store import Dataset, FaultKind

ROUNDS = 12
FILL = Path(__file__).with_name("fill.py")


def start(dataset: Dataset, seed: int, *steps: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(FILL), str(dataset.path), str(seed), *map(str, steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def stored(dataset: Dataset) -> dict[str, str]:
    """Return uuid → image of all instances."""
    found: dict[str, str] = {}
    for image in dataset.annotated():
        assert not found.keys() & set(image.instances.uuids)
        found |= dict.fromkeys(image.instances.uuids, image.file_name)
    return found


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    children = [start(dataset, seed, 60) for seed in (1, 2)]
    told: list[list[str]] = []
    for child in children:
        out, _ = child.communicate()
        assert child.returncode == 0
        told += [json.loads(line) for line in out.splitlines()]
    assert len(told) > 60
    assert stored(dataset) == {uuid: image_id for image_id, uuid in told}
    assert sum(entry.num_instances for entry in dataset.entries()) == len(told)
    assert faults_of(dataset) == []
    assert dataset.entries() == Dataset.open(dataset.path).entries()


def test_the_same_images_from_two_processes_come_in_once(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    paths = [str(write_image(tmp_path / "in" / f"{n}.png", n)) for n in range(40)]
    code = (
        "import sys\n"
        "from napari_deeppixel.dataset.store import Dataset\n"
        "dataset = Dataset.open(sys.argv[1])\n"
        "print(sum(dataset.add_file(path).is_new for path in sys.argv[2:]))\n"
    )
    command = [sys.executable, "-c", code, str(dataset.path), *paths]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    added = [int(child.communicate()[0]) for child in children]
    assert sum(added) == 40
    assert [entry.file_name for entry in dataset.entries()] == [f"{n}.png" for n in range(40)]
    assert faults_of(dataset) == []


def finished(child: "subprocess.Popen[str]", seconds: float) -> list[list[str]]:
    """Let a process work for some time and kill it; return the steps that it said were over."""
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(seconds)
    child.kill()
    # a last line may be cut short
    lines = (first + child.stdout.read()).split("\n")[:-1]
    child.wait()
    child.stdout.close()
    return [json.loads(line) for line in lines]


def test_writers_killed_at_any_moment_lose_no_finished_save(
    tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    dataset = new_dataset(tmp_path)
    chance = random.Random(11)
    told: dict[str, str] = {}
    for number in range(ROUNDS):
        children = [start(dataset, 2 * number + k) for k in (0, 1)]
        for child in children:
            told |= {uuid: image_id for image_id, uuid in finished(child, chance.uniform(0, 0.5))}
        # as it is, before anything is repaired
        found = stored(Dataset.open(dataset.path))
        assert {uuid: found.get(uuid) for uuid in told} == told
        listed = Dataset.open(dataset.path).entries()
        assert sum(entry.num_instances for entry in listed) == len(found)
        assert all(not entry.problem for entry in listed)
        faults = faults_of(dataset)
        assert {fault.kind for fault in faults} <= HARMLESS
    record_testsuite_property("saves before kills", len(told))
    assert len(told) > 10 * ROUNDS
    dataset.repair(faults_of(dataset))
    assert faults_of(dataset) == []
    assert stored(dataset) == found


HARMLESS = {
    FaultKind.LEFT_OVER,
    FaultKind.ORPHAN_IMAGE,
    FaultKind.STALE_CATEGORY,
    FaultKind.STALE_INDEX,
}


@pytest.mark.skipif(os.name == "nt", reason="forks; Windows has other calls for the same files")
@pytest.mark.parametrize(
    "action", ["add", "add again", "save", "remove", "rename", "merge", "relocate", "repair"]
)
def test_death_at_each_step_of_an_action_loses_nothing(tmp_path: Path, action: str) -> None:
    script = Path(__file__).with_name("die.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), action],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    deaths = json.loads(done.stdout.splitlines()[-1])
    # each writes two files or more, or moves them
    assert deaths >= 3
