"""The models that can be asked for by name; no torch here, so that forms can list them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One model with a name.

    Attributes
    ----------
    name
        What `load_model` takes.
    description
        What it is for, in a sentence.
    score
        Score that it shows instances from.
    box_nms
        IoU above which it drops the lower of two boxes.
    torchvision_weights
        Name of torchvision's weights enum; empty for the model in this package.
    """

    name: str
    description: str
    score: float
    box_nms: float
    torchvision_weights: str = ""


# what is used where nobody chose another
DEFAULT_MODEL = "nuclei"

CATALOGUE = (
    CatalogueEntry(
        name=DEFAULT_MODEL,
        description="Cell nuclei: fluorescence, histology, brightfield. Ships with the plugin.",
        score=0.6,
        box_nms=0.4,
    ),
    CatalogueEntry(
        name="coco",
        description="80 everyday objects in photographs (ResNet-50). 170 MB, downloaded once.",
        score=0.5,
        box_nms=0.5,
        torchvision_weights="MaskRCNN_ResNet50_FPN_Weights.COCO_V1",
    ),
    CatalogueEntry(
        name="coco-v2",
        description="80 everyday objects, more exact and slower. 178 MB, downloaded once.",
        score=0.5,
        box_nms=0.5,
        torchvision_weights="MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
    ),
)
