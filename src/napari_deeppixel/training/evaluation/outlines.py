"""Pictures of images with what is right, wrong and missing in them, for the HTML report."""

import base64
import io
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.training.evaluation.figures import Outcome

# dim nuclei stay visible beside bright debris, as in the pictures of `segment`
_CONTRAST = Normalization(mode="percentile", low=0.5, high=99.8)
_MOST_PX = 1200
_JPEG_QUALITY = 88
# in pixels: finer corners cannot be seen
_TOLERANCE_PX = 0.4


def outcome_svg(pixels: NDArray[Any], outcome: Outcome, title: str) -> str:
    """Return an image (H, W, C) as SVG with outlines of the class true, false and missed."""
    height, width = pixels.shape[:2]
    groups = [
        f'<g class="{kind}">{"".join(_outline(each, kind, instances) for each in instances)}</g>'
        for kind, instances in (
            ("true", outcome.true),
            ("false", outcome.false),
            ("missed", outcome.missed),
        )
    ]
    return (
        f'<svg class="picture" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}"><image width="{width}" height="{height}" '
        f'href="{_data_url(pixels)}"/>{"".join(groups)}</svg>'
    )


def _outline(instance: Instance, kind: str, instances: InstanceSet) -> str:
    name = instances.categories.name_of(instance.category_id)
    score = f", score {instance.score:.2f}" if kind != "missed" else ""
    path = mask_path(instance.mask)
    # a dark line under the coloured one keeps it visible on white
    return (
        f'<path class="halo" d="{path}"/><path d="{path}">'
        f"<title>{escape(f'{kind}: {name}{score}')}</title></path>"
    )


def mask_path(mask: CroppedMask) -> str:
    """Return the outlines of a mask as an SVG path, on pixel edges of the image."""
    rings = find_contours(np.pad(mask.pixels, 1).astype(np.float32), 0.5)
    paths = []
    for ring in rings:
        points = approximate_polygon(ring, _TOLERANCE_PX)
        # centres of the padded crop to edges of the image
        xs, ys = points[:, 1] + mask.x - 0.5, points[:, 0] + mask.y - 0.5
        steps = "L".join(f"{x:g} {y:g}" for x, y in zip(xs, ys, strict=True))
        paths.append(f"M{steps}Z")
    return "".join(paths)


def _data_url(pixels: NDArray[Any]) -> str:
    shown = pixels if pixels.shape[2] == 3 else pixels[..., :1]
    is_photo = shown.shape[2] == 3 and shown.dtype == np.uint8
    if not is_photo:
        shown = np.rint(_CONTRAST.apply(shown) * 255).astype(np.uint8)
    picture = Image.fromarray(shown if shown.shape[2] == 3 else shown[..., 0])
    picture.thumbnail((_MOST_PX, _MOST_PX))
    encoded = io.BytesIO()
    picture.save(encoded, format="JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
