"""An evaluation as one HTML file: no script, nothing from the network, light and dark."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from pathlib import Path

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.training.evaluation.charts import (
    Axes,
    Line,
    bar_chart,
    line_chart,
    scatter_chart,
)
from napari_deeppixel.training.evaluation.data import read_pixels
from napari_deeppixel.training.evaluation.figures import (
    CocoFigures,
    EvaluationReport,
    ImageOutcome,
)
from napari_deeppixel.training.evaluation.outlines import outcome_svg
from napari_deeppixel.training.evaluation.report import outcome_of
from napari_deeppixel.training.evaluation.truth import Found, Truth

_MOST_PICTURES = 8
_MOST_CATEGORIES = 20
_NONE = "-"


def write_html(
    path: Path,
    report: EvaluationReport,
    *,
    truths: Sequence[Truth],
    founds: Sequence[Found],
    title: str,
    notes: Sequence[str] = (),
) -> list[str]:
    """Write a report as one HTML file, whole or not at all; return what a person should know.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    pictures, problems = _pictures(report, truths, founds)
    sections = [
        _head(report, title),
        _list_of([*notes, *problems]),
        _tiles(report),
        f'<h2>Curves</h2><div class="grid">{"".join(_charts(report))}</div>',
        "<h2>Tables</h2>",
        *_tables(report),
        f"<h2>Worst images</h2>{_LEGEND}{pictures}",
        _all_images(report),
        _EXPLANATION,
    ]
    style = (files(__package__) / "report.css").read_text(encoding="utf-8")
    text = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"{''.join(sections)}</main></body></html>"
    )
    with atomic_file(path) as file:
        # half of a character, which a file's name can hold, is no UTF-8
        file.write(text.encode("utf-8", errors="backslashreplace"))
    return problems


def _head(report: EvaluationReport, title: str) -> str:
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"<h1>{escape(title)}</h1><p>{report.num_images:,} images with {report.num_objects:,} "
        f"objects. Predictions count from a score of {report.score:g}, but for AP and the curves "
        f"over the score, which take all. {when}</p>"
    )


def _list_of(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'


def _share(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else _NONE


def _count(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else _NONE


def _tiles(report: EvaluationReport) -> str:
    kind, figures = ("mask", report.mask) if report.mask.by_category else ("box", report.box)
    tiles = [
        (f"AP, {kind}", _share(figures.ap)),
        ("AP50", _share(figures.ap50)),
        ("AP75", _share(figures.ap75)),
        ("accuracy at IoU 0.5", _share(report.accuracy[0.5])),
        ("F1 at IoU 0.5", _share(report.f1[0.5])),
        ("panoptic quality", _share(report.pq[0.5])),
        ("count off by", _count(report.count_error)),
    ]
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles)
    return f'<div class="tiles">{cells}</div>'


def _charts(report: EvaluationReport) -> Iterator[str]:
    yield line_chart(
        Axes(
            title="Over the IoU that a match needs",
            x_label="IoU",
            y_label="share",
            x_limits=(0.5, 1.0),
        ),
        [
            Line(name=name, points=tuple(values.items()), style=style)
            for style, (name, values) in enumerate(
                (("accuracy", report.accuracy), ("F1", report.f1), ("panoptic quality", report.pq)),
                start=1,
            )
        ],
    )
    yield line_chart(
        Axes(title="Precision and recall", x_label="recall", y_label="precision"),
        [
            Line(
                name=f"IoU {curve.iou:g}",
                points=tuple((n / 100, share) for n, share in enumerate(curve.precisions)),
                style=style,
            )
            for style, curve in enumerate(report.curves, start=1)
        ],
    )
    curve = report.by_score
    yield line_chart(
        Axes(title="Whole masks over the lowest score, IoU 0.5", x_label="score", y_label="share"),
        [
            Line(name=name, points=tuple(zip(curve.scores, values, strict=True)), style=style)
            for style, (name, values) in enumerate(
                (("F1", curve.f1s), ("precision", curve.precisions), ("recall", curve.recalls)),
                start=1,
            )
        ],
        [
            (report.score, f"used: {report.score:g}"),
            (curve.best_score, f"best F1 {curve.best_f1:.3f}: {curve.best_score:.2f}"),
        ],
    )
    yield _calibration(report)
    yield _counts(report)


def _calibration(report: EvaluationReport) -> str:
    found = report.calibration
    bars = [
        (share, f"score {mean:.2f}: {share:.0%} of {count:,} are right")
        for share, mean, count in zip(
            found.true_shares, found.mean_scores, found.counts, strict=True
        )
    ]
    title = f"Share that is right, by score (off by {_share(found.error)} on average)"
    axes = Axes(title=title, x_label="score", y_label="share that is right")
    return bar_chart(axes, found.edges, bars)


def _counts(report: EvaluationReport) -> str:
    points = []
    for image in report.images:
        found = image.num_true_positive + image.num_false_positive
        points.append((image.num_true_positive + image.num_missed, found, image.title))
    most = max([5, *(max(true, found) for true, found, _ in points)])
    # a round number, of which a fifth is round as well
    unit = 10 ** math.floor(math.log10(most))
    top = next(step * unit for step in (1, 2, 2.5, 5, 10) if step * unit >= most)
    axes = Axes(
        title=f"Objects an image (found - annotated: {report.count_bias:+.1f} on average)",
        x_label="annotated",
        y_label="found",
        x_limits=(0, top),
        y_limits=(0, top),
    )
    return scatter_chart(axes, points)


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><caption>{escape(title)}</caption><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _tables(report: EvaluationReport) -> Iterator[str]:
    yield _table(
        "COCO: average precision and recall, by size of the objects",
        ("", "AP", "AP50", "AP75", "small (< 32² px)", "medium", "large (> 96² px)", "AR"),
        [_coco_row("masks", report.mask), _coco_row("boxes", report.box)],
    )
    by_category = report.mask.by_category or report.box.by_category
    if len(by_category) > 1:
        yield _table(
            "By category",
            ("category", "objects", "AP", "AP50", "AP75", "AR"),
            [
                [name, f"{one.num_objects:,}", *map(_share, (one.ap, one.ap50, one.ap75, one.ar))]
                for name, one in by_category.items()
            ],
        )
    yield _table(
        "Images that look alike",
        ("", "images", "objects", "AP", "AP50", "AP75", "accuracy50", "count off by"),
        [
            [
                group.name,
                f"{group.num_images:,}",
                f"{group.num_objects:,}",
                *map(_share, (group.ap, group.ap50, group.ap75, group.accuracy50)),
                _count(group.count_error),
            ]
            for group in report.groups
        ],
    )
    yield _table(
        f"Label images at score {report.score:g}, as StarDist counts",
        ("at IoU", *(f"{iou:.2f}" for iou in report.accuracy)),
        [
            [name, *(_share(value) for value in values.values())]
            for name, values in (
                ("accuracy", report.accuracy),
                ("F1", report.f1),
                ("precision", report.precision),
                ("recall", report.recall),
                ("panoptic quality", report.pq),
                ("accuracy of whole masks", report.accuracy_of_masks),
            )
        ],
    )
    yield _confusion(report)


def _coco_row(name: str, figures: CocoFigures) -> list[str]:
    by_size = (figures.ap_small, figures.ap_medium, figures.ap_large)
    shares = (figures.ap, figures.ap50, figures.ap75, *by_size, figures.ar)
    return [name, *(_share(share) for share in shares)]


def _confusion(report: EvaluationReport) -> str:
    names, counts = report.confusion.names, report.confusion.counts
    errors = [
        sum(counts[n][m] + counts[m][n] for m in range(len(names)) if m != n)
        for n in range(len(names))
    ]
    order = sorted(range(len(names)), key=lambda n: (-errors[n], n))[:_MOST_CATEGORIES]
    shown = sorted(order)
    left_out = len(names) - len(shown)
    more = f"; the {len(shown)} that are mixed up most, of {len(names)}" if left_out else ""
    rows = []
    for row in [*shown, len(names)]:
        total = sum(counts[row]) or 1
        cells = "".join(
            f'<td style="--share:{counts[row][column] / total:.2f}" '
            f'class="{"right" if row == column else "wrong"}">'
            f"{'' if row == column == len(names) else f'{counts[row][column]:,}'}</td>"
            for column in [*shown, len(names)]
        )
        name = names[row] if row < len(names) else "nothing there (false)"
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    head = "".join(f"<th>{escape(names[n])}</th>" for n in shown)
    return (
        '<div class="scroll"><table class="confusion"><caption>Annotated (rows) and found (columns)'
        f" at IoU 0.5 and score {report.score:g}{more}</caption><thead><tr><th></th>{head}"
        f"<th>missed</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _pictures(
    report: EvaluationReport, truths: Sequence[Truth], founds: Sequence[Found]
) -> tuple[str, list[str]]:
    """Return the pictures of the worst images, and a note about those that cannot be shown."""
    position = {id(image): n for n, image in enumerate(report.images)}
    shown, missing = [], []
    for image in report.worst_images()[:_MOST_PICTURES]:
        number = position[id(image)]
        truth, found = truths[number], founds[number]
        try:
            pixels = read_pixels(truth)
        except DeepPixelError:
            missing.append(image.title)
            continue
        outcome = outcome_of(truth, found, score=report.score)
        caption = f"<figcaption>{escape(image.title)}: {_sentence(image)}</figcaption>"
        shown.append(f"<figure>{outcome_svg(pixels, outcome, image.title)}{caption}</figure>")
    problems = []
    if missing:
        problems.append(
            f"the report has no picture of {', '.join(missing)}: the image cannot be read"
        )
    return f'<div class="pictures">{"".join(shown)}</div>', problems


def _sentence(image: ImageOutcome) -> str:
    return (
        f"{image.num_true_positive:,} right, {image.num_false_positive:,} wrong, "
        f"{image.num_missed:,} missed; accuracy {_share(image.accuracy)}"
    )


def _all_images(report: EvaluationReport) -> str:
    rows = [
        [
            image.title,
            f"{image.num_true_positive:,}",
            f"{image.num_false_positive:,}",
            f"{image.num_missed:,}",
            _share(image.accuracy),
            _share(image.mean_iou),
        ]
        for image in report.worst_images()
    ]
    table = _table(
        "At IoU 0.5, the worst first",
        ("image", "right", "wrong", "missed", "accuracy", "mean IoU of what matches"),
        rows,
    )
    return f"<details><summary>All {len(rows):,} images</summary>{table}</details>"


_LEGEND = "".join(
    (
        '<p class="legend">',
        *(
            f'<span class="key"><svg width="30" height="10"><g class="{kind}">'
            f'<path class="halo" d="M1 5H29"/><path d="M1 5H29"/></g></svg>{text}</span>'
            for kind, text in (
                ("true", "right"),
                ("false", "wrong: no annotation there, or of another category"),
                ("missed", "missed: annotated, not found"),
            )
        ),
        "</p>",
    )
)

_EXPLANATION = """
<h2>How it is counted</h2>
<p><b>AP</b> (COCO): area under precision over recall, mean over IoU 0.50, 0.55, … 0.95 and the
categories; AP50 and AP75 at these IoU alone; all predictions of an image count, not only 100.
<b>Accuracy</b> is TP / (TP + FP + FN), <b>F1</b> 2 TP / (2 TP + FP + FN), <b>panoptic quality</b>
the IoU of what matches by TP + FP / 2 + FN / 2: pooled over all images, of label images, whatever
the category, as StarDist counts. In a label image, a pixel shows the prediction with the highest
score there; <i>accuracy of whole masks</i> lets them overlap. Right, wrong, missed, the table of
confusions and the curve over the lowest score go by whole masks, too, and by category. What lies by
half or more in ignored regions and matches nothing does not count.</p>
"""
