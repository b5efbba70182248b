"""ModelSpec: all that a weights file must say about itself."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.core.normalization import Normalization

Architecture = Literal["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "maskrcnn_slim"]

SPEC_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A Mask R-CNN: its architecture, categories, input and limits, and where it comes from.

    Attributes
    ----------
    name, description
        For people.
    architecture
        One of torchvision's two ResNet-50 networks, or ``maskrcnn_slim``: a ResNet-18 body without
        its last stage, a narrow FPN and small heads, for small objects and small files.
    categories
        What the network tells apart.
    normalization
        How intensities become the network's input.
    image_mean, image_std
        Subtracted and divided by after normalisation, one value for each input.
    min_size, max_size
        Pixels of the shorter and longer side that an image is resized to; None: not resized.
    zoom
        How many times an image whose size is kept is magnified before the network: small objects
        get finer masks from larger pictures.
    anchor_sizes
        Sides of the anchors for each feature level, in pixels of the network's input.
    aspect_ratios
        Height over width of the anchors, the same on each level.
    fpn_channels
        Width of the feature pyramid of ``maskrcnn_slim``.
    frozen_batch_norm, batch_norm_eps
        Whether the body of ``maskrcnn_resnet50_fpn`` has torchvision's frozen batch norms, and
        what these add to the variance: torchvision's published first-version weights need 0.
    score
        Score that an instance needs to be shown unless the person chooses another.
    box_nms
        IoU above which the lower of two boxes of one category is dropped.
    rpn_post_nms_top_n
        Proposals kept for each image; at least twice the instances to be found.
    provenance
        Where the weights come from: data, licence, date, figures; free-form, JSON values only.

    Raises
    ------
    ValueError
        If only one of min_size and max_size is given, image_mean and image_std differ in length,
        score or box_nms is not in 0 … 1, or zoom is not above 0, or given with min_size.
    """

    name: str
    architecture: Architecture
    categories: CategoryTable
    description: str = ""
    normalization: Normalization = field(default_factory=Normalization)
    image_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    min_size: int | None = 800
    max_size: int | None = 1333
    zoom: float = 1.0
    anchor_sizes: tuple[tuple[int, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    fpn_channels: int = 256
    frozen_batch_norm: bool = False
    batch_norm_eps: float = 1e-5
    score: float = 0.5
    box_nms: float = 0.5
    rpn_post_nms_top_n: int = 1000
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.min_size is None) != (self.max_size is None):
            raise ValueError(
                f"give min_size and max_size or neither, got {self.min_size} and {self.max_size}"
            )
        if not 0 < self.zoom < float("inf") or (self.zoom != 1 and self.min_size is not None):
            raise ValueError(f"zoom must be above 0, and 1 beside min_size, got {self.zoom}")
        if len(self.image_mean) != len(self.image_std):
            raise ValueError(
                f"image_mean {self.image_mean} and image_std {self.image_std} differ in length"
            )
        for name in ("score", "box_nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")

    @property
    def num_inputs(self) -> int:
        """Channels that the network takes."""
        return len(self.image_mean)

    def to_json(self) -> str:
        """Return the spec as JSON text."""
        return json.dumps({"spec_version": SPEC_VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Return the spec that `to_json` wrote.

        Raises
        ------
        WeightsError
            If the text is no such JSON, or was written by a later version.
        """
        try:
            values = json.loads(text)
            version = values.pop("spec_version")
            if version > SPEC_VERSION:
                raise WeightsError(
                    f"the model description has version {version}, this program reads up to "
                    f"{SPEC_VERSION}: update napari-deeppixel"
                )
            table = values["categories"]
            values["categories"] = CategoryTable(
                categories=tuple(Category(**category) for category in table["categories"]),
                class_indices=tuple(table["class_indices"]),
            )
            values["normalization"] = Normalization(**values["normalization"])
            values["anchor_sizes"] = tuple(tuple(sizes) for sizes in values["anchor_sizes"])
            for name in ("aspect_ratios", "image_mean", "image_std"):
                values[name] = tuple(values[name])
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(f"the model description is damaged ({error})") from error


def slim_spec(
    name: str, categories: CategoryTable, *, description: str = "", **changes: Any
) -> ModelSpec:
    """Return the spec of the small network for small objects at their native size.

    Anchors of 8 to 110 px at two sizes a level fit nuclei (`docs/models.md`).
    """
    values: dict[str, Any] = {
        "normalization": Normalization(
            mode="percentile", low=1.0, high=99.8, clip_low=-0.2, clip_high=1.5
        ),
        "image_mean": (0.0, 0.0, 0.0),
        "image_std": (1.0, 1.0, 1.0),
        "min_size": None,
        "max_size": None,
        "anchor_sizes": ((8, 12), (16, 24), (32, 48), (64, 110)),
        "aspect_ratios": (1.0,),
        "fpn_channels": 64,
        "score": 0.4,
        "box_nms": 0.4,
        "rpn_post_nms_top_n": 2000,
    } | changes
    return ModelSpec(
        name=name,
        architecture="maskrcnn_slim",
        categories=categories,
        description=description,
        **values,
    )
