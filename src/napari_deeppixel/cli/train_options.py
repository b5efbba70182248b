"""What ``napari-deeppixel train`` can be told."""

import argparse

from napari_deeppixel.cli.values import above_zero, count, magnification, positive
from napari_deeppixel.training.choices import Freeze, Preset

SCRATCH = "scratch"

TRAIN = """\
Fine-tune a model on annotated images: on the complete images of a dataset and the complete regions
of its drafts, or on a folder with train/instances.json and val/instances.json (COCO, with the
images that they name).

RUN/best.safetensors are the best weights so far by the images to choose by, RUN/last.pt is where
to go on from, RUN/events.jsonl says what happened, RUN/samples holds pictures (green: annotated,
orange: found). Ctrl-C, or a file RUN/stop, finishes the step, saves, and stops.
"""
TRAIN_MORE = """\
Anything that is not given is chosen for the device, the model and the number of images, and told.
To go on after a crash: the same command with --resume; all options are then as they were, unless
they are given anew.

Several GPUs, or several computers:
  torchrun --nproc_per_node 4 -m napari_deeppixel.cli train DATASET -o RUN
Each process has its own batch, so a step has that many times more crops.

On a CPU, training uses all cores and sets OMP_WAIT_POLICY=PASSIVE unless the environment has
OMP_NUM_THREADS or OMP_WAIT_POLICY: a thread that waits then leaves its core to the processes that
prepare the images.
"""


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Add all options but the device."""
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a dataset, or a folder with train/ and val/")
    add(
        "-o",
        "--output",
        metavar="RUN",
        help="folder for weights and checkpoints; default: a new one, DATASET/runs/DATE_TIME; with "
        "--resume the newest of them",
    )
    add(
        "--from",
        dest="start",
        metavar="MODEL",
        help="what to start from: nuclei, coco, coco-v2, a model of yours, a .safetensors or .pth "
        f"file, or {SCRATCH}: random weights; default: nuclei",
    )
    add(
        "--preset",
        choices=[*map(str, Preset)],
        default=str(Preset.AUTO),
        metavar="PRESET",
        help=f"{', '.join(Preset)}: batch and crops for a memory; default: by the device",
    )
    add("--resume", action="store_true", help="go on from RUN/last.pt")
    _add_length(parser)
    _add_learning(parser)
    add(
        "--compare",
        action="store_true",
        help="then compare the new weights with those in use and those they came from, on the "
        "images to choose by (RUN/comparison.json)",
    )
    add(
        "--mistakes",
        action="store_true",
        help="then list annotations that are likely missing, spurious or badly outlined "
        "(RUN/mistakes.json)",
    )


def _add_length(parser: argparse.ArgumentParser) -> None:
    lengths = parser.add_mutually_exclusive_group()
    lengths.add_argument(
        "--iterations",
        type=positive,
        metavar="N",
        help="steps in all; default: 25 an image on a CPU, 100 to 1000; 2000 from scratch",
    )
    lengths.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help="instead: how often crops cover all images",
    )
    parser.add_argument(
        "--no-early-stop",
        action="store_true",
        help="go on to the end, also if the weights no longer get better",
    )


def _add_learning(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--freeze",
        choices=[*map(str, Freeze)],
        metavar="LAYERS",
        help="heads: train all but the ResNet; 4+: and its last stage; none: train all; default: "
        "none",
    )
    add(
        "--heads-first",
        type=count,
        metavar="N",
        help="steps at the beginning that train the heads alone; default: a fifth of them for "
        "fewer than 5 images, else 0",
    )
    add("--batch-size", type=positive, metavar="N", help="crops at a time; default: 4 on a CPU")
    add("--accumulate", type=positive, metavar="N", help="batches a step; default: 1")
    add(
        "--learning-rate",
        type=above_zero,
        metavar="LR",
        help="default: 0.0001, from scratch 0.001",
    )
    add("--crop", type=_crop, metavar="PX", help="side of the crops; default: 256 on a CPU")
    add(
        "--zoom",
        type=magnification,
        metavar="X",
        help="train for images that are magnified so many times (0.1 to 10): higher for small "
        "objects and finer edges, and slower; default: as the model to start from",
    )
    add("--seed", type=count, metavar="N", help="same seed, same crops; default: 0")
    add(
        "--workers",
        type=count,
        metavar="N",
        help="processes that make crops; default: 1 on a CPU",
    )


def _crop(text: str) -> int:
    value = positive(text)
    # the network halves crops five times
    if value < 64:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 64 or more")
    return value
