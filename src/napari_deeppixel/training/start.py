"""Where training starts: random weights, or a trained model whose categories become others."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.core.words import listed
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.engine.weights import load_model
from napari_deeppixel.training.anchors import AnchorSizes

# parameter → values for each class
_ROWS_OF = {
    "roi_heads.box_predictor.cls_score": 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_predictor.mask_fcn_logits": 1,
}
# outputs of COCO's networks that no object ever stood for: see `engine.weights.coco_categories`
_UNUSED = re.compile(r"unused \d+")
# the score of an output that stands for nothing: e^-20 beside the others
_NEVER = -20.0


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingPoint:
    """A network before it is trained.

    Attributes
    ----------
    spec
        With the categories to learn.
    model
        The torchvision module, on the CPU.
    notes
        What was kept, and what is new, a sentence each.
    source
        Name and hash of the weights that it comes from; empty: random ones.
    weights_hash
        SHA-256 of the file they come from; empty: random ones.
    """

    spec: ModelSpec
    model: Any
    notes: tuple[str, ...]
    source: str = ""
    weights_hash: str = ""

    def with_anchors(self, sizes: AnchorSizes) -> "StartingPoint":
        """Return the same with anchors of other sizes; all weights stay.

        Raises
        ------
        ValueError
            If the levels, or the sizes on one of them, are not as many as before.
        """
        before = self.spec.anchor_sizes
        if [len(level) for level in sizes] != [len(level) for level in before]:
            raise ValueError(
                f"expected as many anchor sizes on each level as in {before}, since the weights "
                f"are made for these; got {sizes}"
            )
        spec = replace(self.spec, anchor_sizes=sizes)
        return replace(self, spec=spec, model=_model_with(spec, self.model.state_dict()))

    def with_zoom(self, zoom: float) -> "StartingPoint":
        """Return the same for images that are magnified so many times; all weights stay.

        Raises
        ------
        WeightsError
            If the network resizes its images to a size of its own.
        """
        if self.spec.min_size is not None:
            raise WeightsError(
                f"{self.spec.name} resizes images to {self.spec.min_size} px itself, so they "
                "cannot be magnified for training: leave out --zoom, or start from nuclei"
            )
        spec = replace(self.spec, zoom=zoom)
        return replace(self, spec=spec, model=_model_with(spec, self.model.state_dict()))


def starting_point(
    start: str | Path | None,
    categories: CategoryTable,
    *,
    name: str,
    description: str = "",
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
    num_channels: int | None = None,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> StartingPoint:
    """Return a network that is ready to learn categories.

    Categories that the model to start from has, by name, keep what it knows of them. A new one
    starts as the mean of its categories: what an object is, and not which.

    Parameters
    ----------
    start
        What `load_model` takes; None: the small network with random weights.
    categories
        Of the dataset.
    name, description, provenance
        For the new model's `ModelSpec`; where the weights come from is added to the provenance.
    seed
        Of random weights.
    num_channels
        Channels of the images, for the notes; None: not known.
    cancel, on_progress
        For a download.

    Raises
    ------
    WeightsError, RunCancelled
        As `load_model`.
    ValueError
        If there is no category.
    """
    if not len(categories):
        raise ValueError("expected one category or more to learn, got none")
    origin = dict(provenance or {})
    if start is None:
        spec = slim_spec(name, categories, description=description, provenance=origin)
        notes = ("Starts from random weights: it needs hundreds of objects and much time.",)
        return StartingPoint(
            spec=spec,
            model=_random_model(spec, seed),
            notes=(*notes, *_channel_notes(spec, num_channels)),
        )
    # the weights are all that is needed
    base = load_model(
        start, engine="reference", device="cpu", cancel=cancel, on_progress=on_progress
    )
    spec = replace(
        base.spec,
        name=name,
        description=description,
        categories=categories,
        provenance=origin | {"start": {"model": base.spec.name, "hash": base.weights_hash}},
    )
    match = _Match.of(base.spec.categories, categories)
    return StartingPoint(
        spec=spec,
        model=_model_with(spec, match.mapped(base.model.state_dict())),
        notes=(f"Starts from {base.source}.", *match.notes(), *_channel_notes(spec, num_channels)),
        source=base.source,
        weights_hash=base.weights_hash,
    )


def _random_model(spec: ModelSpec, seed: int) -> Any:
    # whoever draws random numbers meanwhile gets what they would have got
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(spec)


def _model_with(spec: ModelSpec, state: Mapping[str, Any]) -> Any:
    model = _random_model(spec, seed=0)
    model.load_state_dict(state)
    return model


@dataclass(frozen=True, kw_only=True)
class _Match:
    """Which class of a base each new class comes from.

    Attributes
    ----------
    num_classes
        Of the new network, background included.
    rows
        New class index → class index in the base; None: the mean.
    mean_of
        Class indices in the base that stand for objects.
    unused
        New class indices that no category has.
    kept, new, dropped
        Names.
    """

    num_classes: int
    rows: Mapping[int, int | None]
    mean_of: Sequence[int]
    unused: Sequence[int]
    kept: Sequence[str]
    new: Sequence[str]
    dropped: Sequence[str]

    @classmethod
    def of(cls, base: CategoryTable, wanted: CategoryTable) -> "_Match":
        named = {
            category.name: index
            for index, category in zip(base.class_indices, base.categories, strict=True)
            if not _UNUSED.fullmatch(category.name)
        }
        # the exact name first: a base may tell "Cell" and "cell" apart
        loosely = {_loose(name): name for name in reversed(named)}
        rows: dict[int, int | None] = {0: 0}
        kept: dict[str, str] = {}
        for index, category in zip(wanted.class_indices, wanted.categories, strict=True):
            found = category.name if category.name in named else loosely.get(_loose(category.name))
            if found is not None:
                kept[category.name] = found
            rows[index] = None if found is None else named[found]
        names = [category.name for category in wanted.categories]
        return cls(
            num_classes=wanted.num_classes,
            rows=rows,
            mean_of=list(named.values()) or list(range(1, base.num_classes)),
            unused=[index for index in range(wanted.num_classes) if index not in rows],
            kept=[name for name in names if name in kept],
            new=[name for name in names if name not in kept],
            dropped=[name for name in named if name not in kept.values()],
        )

    def mapped(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the weights of the base, those of its classes replaced by those of the new."""
        mapped = dict(state)
        for layer, per_class in _ROWS_OF.items():
            for kind in ("weight", "bias"):
                key = f"{layer}.{kind}"
                mapped[key] = self._rows_of(state[key], per_class)
        for index in self.unused:
            mapped["roi_heads.box_predictor.cls_score.weight"][index] = 0
            mapped["roi_heads.box_predictor.cls_score.bias"][index] = _NEVER
        return mapped

    def _rows_of(self, values: Any, per_class: int) -> Any:
        by_class = values.reshape(-1, per_class, *values.shape[1:])
        mean = by_class[list(self.mean_of)].mean(dim=0)
        sources = [self.rows.get(index) for index in range(self.num_classes)]
        rows = [mean if source is None else by_class[source] for source in sources]
        return torch.cat(rows).clone()

    def notes(self) -> list[str]:
        """Return what became of the categories, for people."""
        notes = []
        if self.kept:
            notes.append(f"Keeps what it knows of {listed(self.kept)}.")
        if self.new:
            many = len(self.mean_of)
            origin = "the one category" if many == 1 else f"the mean of the {many} categories"
            notes.append(f"New, as {origin} that it knew: {listed(self.new)}.")
        if self.dropped:
            notes.append(f"Forgets {listed(self.dropped)}.")
        return notes


def _loose(name: str) -> str:
    return " ".join(name.casefold().split())


def _channel_notes(spec: ModelSpec, num_channels: int | None) -> list[str]:
    """Return what becomes of channels, as `pick_channels` picks them, if that is not plain."""
    num_used = 3 if num_channels in (3, 4) else 1
    if num_channels is None or num_channels == num_used == spec.num_inputs:
        return []
    if num_used == 1 and num_channels > 1:
        return [
            f"The images have {num_channels} channels: the first one alone is used, for all "
            f"{spec.num_inputs} inputs."
        ]
    if num_used == 1:
        return [f"The images are grey: all {spec.num_inputs} inputs get the same."]
    return ["Of 4 channels the first three are used."]
