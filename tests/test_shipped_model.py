"""The model in the package on real images with true masks."""

from importlib import resources
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from napari_deeppixel.core.instance import label_image_to_instances
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.weights import load_model
from napari_deeppixel.training.evaluate import average_precision

DATA = Path(__file__).parent / "data"
MODEL = resources.files("napari_deeppixel") / "models" / "nuclei.safetensors"


@pytest.fixture(scope="module")
def engine() -> MaskRCNNEngine:
    return load_model("nuclei", device="cpu")


def test_file_is_small_enough_for_the_wheel_and_says_where_it_comes_from(
    engine: MaskRCNNEngine,
) -> None:
    with resources.as_file(MODEL) as path:
        assert path.stat().st_size < 16_000_000
    assert [category.name for category in engine.spec.categories.categories] == ["nucleus"]
    assert engine.spec.provenance["licence"] == "CC0-1.0"
    assert engine.spec.provenance["data"].startswith("BBBC038v1")


# the images are from the training set: these bounds catch a broken engine or file, the figures on
# images that the model has not seen are in docs/models.md
@pytest.mark.parametrize(
    ("name", "least_ap50"),
    [("fluorescence", 0.85), ("tissue", 0.6), ("histology", 0.6), ("brightfield", 0.3)],
)
def test_sample_is_segmented_as_people_did(
    engine: MaskRCNNEngine, name: str, least_ap50: float
) -> None:
    sample = resources.files("napari_deeppixel") / "samples" / f"{name}.png"
    with resources.as_file(sample) as path:
        pixels = np.asarray(iio.imread(path))
    plane = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    truth = label_image_to_instances(
        iio.imread(DATA / f"{name}_labels.png"), categories=engine.spec.categories
    )
    (prediction,) = engine.predict([plane], PredictOptions())
    figures = average_precision([truth], [prediction.candidates])
    assert figures.ap50 >= least_ap50
