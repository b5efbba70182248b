"""Options that several commands take; no torch here."""

import argparse

from napari_deeppixel.cli.values import magnification
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


def add_zoom(parser: argparse.ArgumentParser) -> None:
    """Add how many times images are magnified for the model."""
    parser.add_argument(
        "--zoom",
        type=magnification,
        metavar="X",
        help="magnify images so many times for the model (0.1 to 10): higher finds smaller objects "
        "and finer edges, lower is faster; default: as the model was trained",
    )
