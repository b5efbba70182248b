"""What can be typed after ``evaluate``; no torch here."""

import argparse

from napari_deeppixel.cli.common_options import add_model, add_zoom
from napari_deeppixel.cli.values import share

EVALUATE = """\
Compare what a model, or another program, finds with annotated images: COCO's average precision of
masks and boxes, accuracy, F1 and panoptic quality over IoU thresholds as StarDist has them, how far
the number of objects is off, which categories are confused, and the worst images. DATA is
  DATASET                what is complete in its split val (--split chooses)
  DATASET/val            the same
  instances.json         a COCO file with its images beside it or in images/
  FOLDER                 with such a file, or with images/ and labels/ (label images)
"""
EVALUATE_MORE = """\
RESULTS.json is a COCO results file, a list of {image_id, category_id, score, segmentation, bbox}
(run lengths or polygons, a box, or both), or a COCO document with scores. Every prediction of an
image counts, not only 100. Accuracy, F1 and quality are of label images, where a pixel shows the
best of the predictions there.
examples:
  napari-deeppixel evaluate my-dataset -m run/best.safetensors --html report.html
  napari-deeppixel evaluate instances.json --predictions results.json --json
"""


def add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate``, but for the device."""
    add = parser.add_argument
    add("data", metavar="DATA", help="annotated images; see above")
    what = parser.add_mutually_exclusive_group()
    # no default here: with one, argparse does not see that both were typed
    add_model(what, default=None)
    what.add_argument(
        "--predictions", metavar="RESULTS.json", help="what any program found, instead of a model"
    )
    add(
        "--split",
        choices=("train", "val", "test"),
        help="which images; default: val where DATA has splits, else all",
    )
    add(
        "-s",
        "--score",
        type=share,
        help="lowest score (0 to 1) of what counts as found; AP counts all. Default: the model's "
        "own, 0.5 with --predictions",
    )
    add_zoom(parser)
    add("--html", metavar="REPORT", help="write a report with curves and pictures, one file")
