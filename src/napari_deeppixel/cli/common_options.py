"""Options that several commands take; no torch here."""

import argparse
from typing import get_args

from napari_deeppixel.cli.values import magnification
from napari_deeppixel.engine.base import EngineKind, Precision
from napari_deeppixel.engine.catalogue import CATALOGUE, DEFAULT_MODEL


def add_model(parser: argparse._ActionsContainer, *, default: str | None = DEFAULT_MODEL) -> None:
    """Add which model; default None: a command that must see whether it was typed sets it."""
    names = ", ".join(entry.name for entry in CATALOGUE)
    parser.add_argument(
        "-m",
        "--model",
        default=default,
        help=f"{names}, one of your own models by name, 'used' for the one in use, or a "
        f".safetensors or .pth file; default: {DEFAULT_MODEL}",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add where networks run."""
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps; default: the fastest there is"
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add where a model runs, and by which forward."""
    add_device(parser)
    parser.add_argument(
        "--engine",
        choices=get_args(EngineKind),
        default="fast",
        help="fast, or reference: torchvision's own forward, slower, to compare with (on mps it "
        "is always used); default: %(default)s",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the numbers that convolutions compute in."""
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="auto",
        help="numbers of the convolutions; boxes are always fp32. auto: bf16 on NVIDIA GPUs (fp16 "
        "on older ones), fp32 elsewhere. On a CPU, bf16 is faster where the processor has it, with "
        "nearly the same result, and fp16 slow; "
        "default: %(default)s",
    )


def add_zoom(parser: argparse.ArgumentParser) -> None:
    """Add how many times images are magnified for the model."""
    parser.add_argument(
        "--zoom",
        type=magnification,
        metavar="X",
        help="magnify images so many times for the model (0.1 to 10): higher finds smaller objects "
        "and finer edges, lower is faster; default: as the model was trained",
    )
