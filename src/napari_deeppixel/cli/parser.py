"""What can be typed; no torch here, so that ``--help`` is instant."""

import argparse
from typing import TYPE_CHECKING, NoReturn

import napari_deeppixel
from napari_deeppixel.cli.common_options import (
    add_device,
    add_engine,
    add_model,
    add_precision,
    add_zoom,
)
from napari_deeppixel.cli.console import EXIT_BAD_INPUT, complain
from napari_deeppixel.cli.evaluate_options import EVALUATE, EVALUATE_MORE, add_evaluate_options
from napari_deeppixel.cli.model_options import (
    COMPARE,
    COMPARE_MORE,
    MODELS,
    MODELS_MORE,
    add_compare_options,
    add_models_options,
)
from napari_deeppixel.cli.train_options import TRAIN, TRAIN_MORE, add_train_options
from napari_deeppixel.cli.values import above_zero, positive, share, size_hw
from napari_deeppixel.dataset.formats.registry import FORMAT_NAMES
from napari_deeppixel.engine.base import DEFAULT_MAX_INSTANCES

if TYPE_CHECKING:
    # the class is generic in stubs alone
    Commands = argparse._SubParsersAction["_Parser"]

RESULT_FORMATS = ("labels", "coco", "overlay")
# those of live.recording.RecordOptions, which is imported by its command alone
RECORD_VIDEOS = ("overlay", "raw", "none")
RECORD_LABELS = ("tiff", "zarr", "none")

_SEGMENT = """\
Find the objects in images and write for each image
  NAME_labels.tif    the number of the object at each pixel (16 bits, 32 where needed)
  NAME_coco.json     masks, boxes and scores as COCO; keeps what overlaps
  NAME_overlay.png   a picture of it; one a plane for a stack (NAME_overlay_t0003.png)
"""
_SEGMENT_MORE = """\
A folder stands for the images in it, a pattern such as 'day1/*.tif' for those that fit it. An image
that cannot be read is reported, and the others go on; the exit code is then 2.
"""
_DEMO = "Segment the sample images in this package with the model in it."
_LIVE = """\
Find the objects in a camera, a stream or a video while it runs, and tell how fast that is. Ctrl-C
ends it. SOURCE is
  0                      the first camera, as --list counts them; camera:NAME goes by its name
  rtsp://HOST/PATH       a stream, also http://HOST/PATH (MJPEG)
  film.mp4               a video
  screen                 what is on the screen
  demo                   moving discs
The model takes the newest frame; those that come meanwhile are skipped and counted.
"""
_LIVE_MORE = """\
A lost camera or stream is opened again until it is back. The exit code is 2 if the source could not
be opened, or the model or the recording stopped by an error.
"""
_CONVERT = """\
Read annotations in one format and write them in another; 'dataset' is the folder that people
annotate in for years. What the other format cannot hold is told before anything is written.
"""
_CONVERT_MORE = """\
formats: {formats}
An entry that cannot be read is reported, and the others go on; the exit code is then 2. It is 2,
too, where --lossless stops, with nothing written.
examples:
  napari-deeppixel convert instances.json my-dataset --images pictures
  napari-deeppixel convert my-dataset instances.json
  napari-deeppixel convert my-dataset for-yolo --to yolo
"""
_MISTAKES = """\
List likely mistakes among annotations, the worst first, with the reason: objects that nobody
annotated, annotations of nothing, bad outlines, several objects in one or one in several, wrong
categories. A model that was not trained on these labels, or validation images, tell more: what it
was trained on, a model knows by heart, mistakes and all.
"""
_MISTAKES_MORE = """\
DATASET is a dataset, a folder with train/ and val/, or one with instances.json (COCO). Of a dataset
the complete images and regions count. napari goes through the list: Review tab, Label mistakes.
A list that is there is replaced; what was dismissed in it stays so.
"""
_CHECK = """\
Read all of a dataset folder, image files included, and tell what is wrong with it: annotations that
cannot be read or have no image, empty masks and masks outside their image, what is there twice,
images that changed or moved, and what processes left that died.
"""
_CHECK_MORE = """\
--repair does what is safe: it takes out empty and doubled instances, gives new numbers for doubled
ones, lists images that are not listed, moves images back to their names, and clears up. What it
takes out is kept in DATASET/removed. The exit code is 0 if nothing is wrong, after the repair with
--repair; 2 if something is.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse prints the whole usage first, which hides the one line that matters
        complain(f"{message} (see {self.prog} --help)")
        self.exit(EXIT_BAD_INPUT)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(prog="napari-deeppixel", description="Instance segmentation with Mask R-CNN.")
    parser.add_argument("--version", action="version", version=napari_deeppixel.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_segment(commands)
    _add_demo(commands)
    _add_live(commands)
    _add_convert(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_models(commands)
    _add_mistakes(commands)
    _add_check(commands)
    return parser


def _add_command(
    commands: "Commands", name: str, summary: str, *, description: str, epilog: str = ""
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="machine-readable results, and nothing else, on stdout"
    )
    return parser


def _add_segment(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "segment",
        "find the objects in images",
        description=_SEGMENT,
        epilog=_SEGMENT_MORE,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image file, folder or pattern")
    add_model(parser)
    add_engine(parser)
    add_precision(parser)
    add("-o", "--output", default="deeppixel-output", metavar="DIR", help="default: %(default)s")
    add(
        "--overwrite",
        action="store_true",
        help="replace results that are there; otherwise their image is left out and reported",
    )
    add(
        "--format",
        type=_formats,
        default=RESULT_FORMATS,
        metavar="FORMATS",
        help=f"what to write, with commas; default: {','.join(RESULT_FORMATS)}",
    )
    add("-s", "--score", type=share, help="lowest score (0 to 1); default: the model's own")
    add(
        "--max-instances",
        type=positive,
        default=DEFAULT_MAX_INSTANCES,
        metavar="N",
        help="most objects a plane; default: %(default)s",
    )
    add(
        "--mask-threshold",
        type=share,
        default=0.5,
        metavar="P",
        help="probability (0 to 1) from which a pixel belongs to an object; default: %(default)s",
    )
    add("--min-area", type=positive, default=1, metavar="PX", help="smallest object in pixels")
    add_zoom(parser)
    add(
        "--channels",
        type=_channels,
        metavar="0,1,2",
        help="channels for the model: one, or one for each input; default: RGB, else the first",
    )
    add("-q", "--quiet", action="store_true", help="no table and no progress; warnings stay")


def _add_demo(commands: "Commands") -> None:
    parser = _add_command(
        commands, "demo", "segment the sample images in this package", description=_DEMO
    )
    add = parser.add_argument
    add("-o", "--output", default="demo-output", metavar="DIR", help="default: %(default)s")
    add_engine(parser)
    add("--napari", action="store_true", help="open images and results in napari")


def _add_live(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "live",
        "find the objects in a camera, a stream or a video",
        description=_LIVE,
        epilog=_LIVE_MORE,
    )
    add = parser.add_argument
    add("source", nargs="?", metavar="SOURCE", help="camera, URL, video, screen or demo")
    add("--list", action="store_true", help="the sources that are there, instead of a run")
    add("--seconds", type=above_zero, metavar="N", help="end so long after the first frame")
    add_model(parser)
    add_engine(parser)
    add_precision(parser)
    add("-s", "--score", type=share, help="lowest score (0 to 1); default: the model's own")
    add("--min-area", type=positive, default=1, metavar="PX", help="smallest object in pixels")
    add_zoom(parser)
    add("--size", type=size_hw, metavar="WxH", help="of the frames, such as 640x480")
    add("--fps", type=above_zero, metavar="F", help="frames a second that the source shall give")
    add(
        "--timeout",
        type=above_zero,
        default=5.0,
        metavar="S",
        help="longest wait for the source and each of its frames; default: %(default)g",
    )
    add(
        "--all-frames", action="store_true", help="a video waits for the model: no frame is skipped"
    )
    add("--loop", action="store_true", help="a video begins again at its end")
    add("--record", metavar="DIR", help="record instances and a film in a new folder")
    add(
        "--video",
        choices=RECORD_VIDEOS,
        default=RECORD_VIDEOS[0],
        help="film of the recording: frames with their objects, or all as they came; "
        "default: %(default)s",
    )
    add(
        "--labels",
        choices=RECORD_LABELS,
        default=RECORD_LABELS[0],
        help="label images of the recording; default: %(default)s",
    )


def _add_convert(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "convert",
        "annotations from one format into another",
        description=_CONVERT,
        epilog=_CONVERT_MORE.format(formats=", ".join(FORMAT_NAMES)),
    )
    add = parser.add_argument
    add("source", metavar="SRC", help="file or folder of annotations")
    add("target", metavar="DST", help="file or folder to write; a dataset may be there already")
    add(
        "--from",
        dest="source_format",
        choices=FORMAT_NAMES,
        metavar="FORMAT",
        help="of SRC; default: guessed",
    )
    add(
        "--to",
        dest="target_format",
        choices=FORMAT_NAMES,
        metavar="FORMAT",
        help="of DST; default: by its ending, a folder becomes a dataset",
    )
    add(
        "--images",
        metavar="DIR",
        help="where the images are; default: beside the annotations. A dataset has its own: DIR is "
        "then where they are copied to",
    )
    add("--no-images", action="store_true", help="write annotations only, where the format allows")
    add(
        "--category",
        default="object",
        metavar="NAME",
        help="for formats that know no categories; default: %(default)s",
    )
    add(
        "--state",
        choices=("none", "draft", "complete"),
        help="of all images, such as complete where every object is annotated; default: as SRC "
        "says, else draft",
    )
    add(
        "--rejected",
        choices=("keep", "leave-out"),
        help="instances that a person rejected; default: keep in a dataset and COCO, where their "
        "state says so, leave out elsewhere",
    )
    add("--lossless", action="store_true", help="write nothing if anything would be lost")
    add(
        "--overwrite",
        action="store_true",
        help="replace a file that is there, or write into a folder that is not empty; otherwise an "
        "error. A dataset takes more images in any case",
    )
    add("--dry-run", action="store_true", help="read everything, tell what would be lost, and end")


def _add_train(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "train",
        "train a network on annotated images",
        description=TRAIN,
        epilog=TRAIN_MORE,
    )
    add_train_options(parser)
    add_device(parser)


def _add_evaluate(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "evaluate",
        "compare a model with annotated images",
        description=EVALUATE,
        epilog=EVALUATE_MORE,
    )
    add_evaluate_options(parser)
    add_engine(parser)
    add_precision(parser)


def _add_compare(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "compare",
        "tell whether a new model is better than the one in use",
        description=COMPARE,
        epilog=COMPARE_MORE,
    )
    add_compare_options(parser)
    add_device(parser)


def _add_models(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "models",
        "list your models, and choose the one in use",
        description=MODELS,
        epilog=MODELS_MORE,
    )
    add_models_options(parser)


def _add_mistakes(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "mistakes",
        "list likely mistakes among annotations",
        description=_MISTAKES,
        epilog=_MISTAKES_MORE,
    )
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="folder of annotated images")
    add_model(parser)
    add_engine(parser)
    add(
        "--split",
        nargs="+",
        choices=("train", "val", "test"),
        default=("train", "val"),
        help="which images; default: train val",
    )
    add(
        "-s",
        "--score",
        type=share,
        help="from which on the model is believed (0 to 1); default: 0.7, or the model's own if "
        "that is higher",
    )
    add("-o", "--output", default="mistakes.json", metavar="FILE", help="default: %(default)s")


def _add_check(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "check",
        "find what is wrong with a dataset",
        description=_CHECK,
        epilog=_CHECK_MORE,
    )
    parser.add_argument("dataset", metavar="DATASET", help="dataset folder")
    parser.add_argument("--repair", action="store_true", help="do what is safe about it")


def _formats(text: str) -> tuple[str, ...]:
    formats = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [part for part in formats if part not in RESULT_FORMATS]
    if unknown or not formats:
        raise argparse.ArgumentTypeError(
            f"{text!r}: choose among {', '.join(RESULT_FORMATS)}, with commas"
        )
    return formats


def _channels(text: str) -> tuple[int, ...]:
    try:
        channels = tuple(int(part) for part in text.split(","))
    except ValueError:
        channels = ()
    if not channels or min(channels) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give channels counted from 0, such as 0,1,2")
    return channels
