"""How unsure a network is where a mask ends."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.engine.kernels import kernels
from napari_deeppixel.engine.torch_gate import torch

# sums of whole numbers do not depend on their order: kernel and torch give the same bits
_STEPS = 2.0**32


def edge_uncertainties(probabilities: Any) -> NDArray[np.float64]:
    """Return how unsure the network is where each mask ends, float64 (N,), 0 to 1.

    The mean of 4 p (1 - p) over the cells with p >= 0.5 and their eight neighbours: 0 where sure
    cells meet sure cells, NaN where no cell reaches 0.5. Cells scale with the box, so the same
    picture at another size gives the same number.

    Measured on 38 validation images of BBBC038v1 with ``nuclei`` (1,907 detections): Spearman's
    correlation with 1 - IoU to the truth is 0.69 over all and 0.55 within an image, there the best
    of 19 measures of the probabilities; 1 - score gives 0.68 and 0.52.

    Parameters
    ----------
    probabilities
        float tensor (N, 1, M, M): mask probabilities before they are pasted.
    """
    p = probabilities.cpu().float()
    compiled = kernels("paste_jit")
    values: NDArray[np.float64]
    if compiled is not None:
        values = compiled.edge_uncertainties(p[:, 0].contiguous().numpy(), _STEPS)
        return values
    is_near = torch.nn.functional.max_pool2d(p, 3, stride=1, padding=1) >= 0.5 if len(p) else p
    p = p.double()
    unsure = (4 * p * (1 - p) * _STEPS).round() * is_near
    # 0 / 0 is NaN, without a warning
    values = (unsure.sum(dim=(1, 2, 3)) / _STEPS / is_near.sum(dim=(1, 2, 3))).numpy()
    return values
