"""Coverage-guided fuzzing of one reader for some time; what breaks it goes into the tests' corpus.

    python benchmarks/fuzz_formats.py FORMAT [--seconds 60]

Needs atheris (`pip install atheris`). Ends at the first file that breaks the reader.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["napari_deeppixel.dataset"]):
    from tests.dataset.hostile_files import CORPUS, HostileTarget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("format")
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    target = HostileTarget(arguments.format, folder / "target")
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, file in enumerate(target.files):
        (seeds / f"{number}").write_bytes(bytes([number % 256]) + target.content(file))
    started_s, runs = time.monotonic(), 0

    def read(data: bytes) -> None:
        nonlocal runs
        if not data:
            return
        runs += 1
        file = target.files[data[0] % len(target.files)]
        try:
            target.read_with(file, data[1:])
        except BaseException:
            place = CORPUS / arguments.format
            place.mkdir(parents=True, exist_ok=True)
            number = len(list(place.iterdir())) + 1
            (place / f"{number}-{file.name}").write_bytes(data[1:])
            raise
        if time.monotonic() - started_s > arguments.seconds:
            print(f"{arguments.format}: {runs:,} files in {arguments.seconds} s, none broke it")
            sys.stdout.flush()
            os._exit(0)

    atheris.Setup([sys.argv[0], str(seeds), "-max_len=60000", "-rss_limit_mb=6000"], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
