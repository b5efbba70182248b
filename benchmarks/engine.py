"""The fast engine against torchvision, side by side in one process, and against the limits.

``python -m benchmarks.engine [--device cuda] [--threads 2] [--quick] [--page FILE]`` in the root of
the repository, or ``make bench``: prints tables and writes them into docs/performance.md. With
``--quick`` a part of them in a few minutes, into no page unless one is named. Times are medians of
rounds that take turns.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import groupby
from pathlib import Path
from unittest import mock

import psutil
from benchmarks.engine_cases import (
    RESNETS,
    SAMPLES,
    batch_of,
    crowded_case,
    nuclei_case,
    resnet_case,
    sample,
)
from benchmarks.performance_page import markdown_table, tables_of_printed, write_block
from benchmarks.prompt import measure as print_prompts
from benchmarks.roofline import roofline_tables
from benchmarks.side_by_side import (
    AUTOCAST,
    FAST,
    FAST_BF16,
    TORCHVISION,
    Case,
    Contestants,
    agreement,
    first_result_seconds,
    in_fresh_process,
    median_seconds,
    peak_mib,
    variants,
)

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.engine.device import pick_device
from napari_deeppixel.engine.kernels import wait_for_kernels
from napari_deeppixel.engine.torch_gate import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how long to measure; `threads` are torch's."""

    device: str
    threads: int
    rounds: int

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a GPU of NVIDIA."""
        return self.device.startswith("cuda")


def conditions(setting: Setting) -> str:
    """Return a line about device, versions, day and load."""
    name = torch.cuda.get_device_name(setting.device) if setting.is_cuda else _cpu_name()
    packages = ("torch", "torchvision", "numba")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    detectron2 = "installed, not run here" if _is_installed("detectron2") else "not installed"
    return (
        f"{name}, {setting.threads} threads; Python {platform.python_version()}, {versions}; "
        f"{date.today()}, load average {psutil.getloadavg()[0]:.1f} at the start, {setting.rounds} "
        f"rounds. detectron2: {detectron2}.\n"
    )


def _cpu_name() -> str:
    name = str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor())
    return f"{name} (bf16)" if AUTOCAST in variants("cpu") else f"{name} (no bf16)"


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def compare(cases: Iterable[Case], setting: Setting) -> Iterator[str]:
    """Yield tables of the time of each variant, and of how alike the answers are."""
    names = variants(setting.device)
    times, answers = [], []
    for model, of_model in groupby(cases, key=lambda case: case.model):
        contestants = Contestants(model, setting.device)
        for case in of_model:
            # calls that warm up; on CUDA the fast engine records its graph in the second
            for _ in range(2 if setting.is_cuda else 0):
                contestants.predict(FAST, case)
                contestants.predict(FAST_BF16, case)
            found = {name: contestants.instances(name, case) for name in names}
            works = [partial(contestants.predict, name, case) for name in names]
            seconds = dict(zip(names, median_seconds(works, setting.rounds), strict=True))
            instances = sum(map(len, found[TORCHVISION]))
            cells = [_time_cell(seconds, name, len(case.planes)) for name in names]
            times.append([case.name, str(instances), *cells])
            answers.append([case.name, *_answer_cells(found, contestants.spec.score)])
            print(*times[-1], *answers[-1][1:], sep=" | ", file=sys.stderr, flush=True)
    yield markdown_table(["one call", "instances", *names], times)
    yield markdown_table(
        [
            "against torchvision's fp32",
            f"{FAST}: same instances",
            "box, px",
            "score",
            "mask pixels",
            f"{FAST_BF16}: same instances",
            f"{AUTOCAST}: same instances",
        ],
        answers,
    )


def _time_cell(seconds: dict[str, float], name: str, planes: int) -> str:
    taken = seconds[name]
    digits = 0 if taken > 0.1 else 1
    cell = f"{1000 * taken:,.{digits}f} ms, {planes / taken:,.3g}/s"
    return cell if name == TORCHVISION else f"{cell}, {seconds[TORCHVISION] / taken:.2f}x"


def _answer_cells(found: dict[str, list[InstanceSet]], score: float) -> list[str]:
    expected = found[TORCHVISION]
    shown = [instances.select(instances.scores >= score) for instances in expected]

    def same(name: str) -> str:
        if name not in found:
            return ""
        all_alike, shown_alike = (agreement(some, found[name]) for some in (expected, shown))
        return (
            f"{all_alike.same} of {all_alike.expected} ({all_alike.found} found), "
            f"{shown_alike.same} of {shown_alike.expected} shown"
        )

    exact = agreement(expected, found[FAST])
    share = f"{100 * exact.mask_share:.4f} %"
    differences = [f"{exact.box_px:.4f}", f"{exact.score:.0e}", share]
    return [same(FAST), *differences, same(FAST_BF16), same(AUTOCAST)]


def compare_start(cases: list[Case], setting: Setting) -> str:
    """Return a table of the first result in fresh processes, with and without compiled kernels."""
    rows = []
    for case in cases:
        taken: list[list[float]] = []
        for _ in range(setting.rounds // 2):
            arguments = (case, setting.device, setting.threads)
            seconds = [
                in_fresh_process(first_result_seconds, name, *arguments)
                for name in (TORCHVISION, FAST)
            ]
            with (
                tempfile.TemporaryDirectory() as empty,
                mock.patch.dict(os.environ, {"NUMBA_CACHE_DIR": empty}),
            ):
                seconds.append(in_fresh_process(first_result_seconds, FAST, *arguments))
            taken.append(seconds)
        # the best: what else ran on the cores only adds
        best = [min(column) for column in zip(*taken, strict=True)]
        rows.append([case.name, *(f"{seconds:.2f} s" for seconds in best)])
    header = ["model loaded and first result", TORCHVISION, FAST, f"{FAST}, kernels never compiled"]
    return markdown_table(header, rows)


def compare_memory(cases: list[Case], setting: Setting) -> str:
    """Return a table of the peak memory of a first call, each in a fresh process."""
    names = variants(setting.device)
    rows = [
        [
            case.name,
            *(
                f"{in_fresh_process(peak_mib, name, case, setting.device, setting.threads):,.0f}"
                for name in names
            ),
        ]
        for case in cases
    ]
    return markdown_table(["peak memory, MiB", *names], rows)


def printed_by_paste() -> str:
    """Return the tables of `benchmarks.paste`."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.paste"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return tables_of_printed(done.stdout)


def measure_prompts(cases: list[Case], device: str, threads: int) -> str:
    """Return the table of `benchmarks.prompt` for the fast engine."""
    torch.set_num_threads(threads)
    wait_for_kernels()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for case in cases:
            engine = Contestants(case.model, device).fast
            print_prompts(engine.spec.name, engine, case.planes[0])
    header = (
        "box → mask, ms | 1 box | 100 boxes | click | features | predict | ratio | features, MiB"
    )
    return tables_of_printed(f"{header}\n{printed.getvalue()}")


def small_set(folder: Path) -> tuple[list[Case], list[Case]]:
    """Return the cases of a quick run, and those that are looked at closely."""
    cases = [
        nuclei_case("fluorescence", sample("fluorescence")),
        crowded_case(),
        resnet_case("ResNet-50 v1", folder, 100),
    ]
    return cases, cases[1:2]


def full_set(folder: Path) -> tuple[list[Case], list[Case]]:
    """Return the cases of a full run, and those that are looked at closely."""
    nuclei = [*(nuclei_case(name, sample(name)) for name in SAMPLES), crowded_case()]
    resnets = {
        (name, count): resnet_case(name, folder, count)
        for name in RESNETS
        for count in (20, 100, 300)
    }
    return [*nuclei, *resnets.values()], [nuclei[-1], *(resnets[name, 100] for name in RESNETS)]


def with_batches(cases: list[Case]) -> list[Case]:
    """Return cases, each followed by a batch of the same plane."""
    return [variant for case in cases for variant in (case, batch_of(case))]


def measure(setting: Setting, *, is_quick: bool, folder: Path) -> Iterator[str]:
    """Yield the tables one by one; a folder takes the random weights."""
    yield conditions(setting)
    # first: a child's peak of memory starts at what its parent has
    after_network = "" if is_quick or setting.is_cuda else printed_by_paste()
    wait_for_kernels()
    cases, close = (small_set if is_quick else full_set)(folder)
    yield from compare(with_batches(cases) if setting.is_cuda else cases, setting)
    yield compare_start(close, setting)
    yield compare_memory(close, setting)
    yield after_network
    if not is_quick:
        asked = [cases[0], close[1]]
        yield in_fresh_process(measure_prompts, asked, setting.device, setting.threads)
    names = [name for name in variants(setting.device) if name in (FAST, FAST_BF16)]
    yield from roofline_tables(close, names, device=setting.device, rounds=setting.rounds)


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="as load_model takes it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="a part, in a few minutes")
    parser.add_argument(
        "--page", type=Path, help="where to write; docs/performance.md if not quick"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    setting = Setting(
        device=pick_device(arguments.device),
        threads=arguments.threads,
        rounds=3 if arguments.quick else 5,
    )
    texts = []
    with tempfile.TemporaryDirectory() as folder:
        for text in measure(setting, is_quick=arguments.quick, folder=Path(folder)):
            print(text, flush=True)
            texts.append(text)
    page = arguments.page or (None if arguments.quick else PAGE)
    if page is not None:
        kind = "cuda" if setting.is_cuda else setting.device
        write_block(page, "engine", kind, "\n".join(text for text in texts if text))


if __name__ == "__main__":
    main()
