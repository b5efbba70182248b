"""Whether two predictions hold the same instances."""

import numpy as np

from napari_deeppixel.engine.base import Prediction

# the promise of the fast engine in fp32
BOX_PX = 0.05
SCORE = 1e-4
MASK_SHARE = 1e-4


def assert_same_instances(
    want: Prediction, have: Prediction, *, score: float = SCORE, mask_share: float = MASK_SHARE
) -> int:
    """Fail unless each instance has a partner of its own in the other one; return their number."""
    wanted, got = want.candidates, have.candidates
    assert got.image_hw == wanted.image_hw
    assert len(got) == len(wanted)
    assert len(have.detection_scores) == len(want.detection_scores)
    free = np.ones(len(got), bool)
    differing = 0
    for row in range(len(wanted)):
        distance = np.abs(got.predicted_boxes_xyxy - wanted.predicted_boxes_xyxy[row]).max(axis=1)
        is_partner = (
            free
            & (distance <= BOX_PX)
            & (np.abs(got.scores - wanted.scores[row]) <= score)
            & (got.category_ids == wanted.category_ids[row])
        )
        assert is_partner.any(), f"no partner of {wanted.predicted_boxes_xyxy[row]}"
        partner = int(np.flatnonzero(is_partner)[distance[is_partner].argmin()])
        free[partner] = False
        pixels = [s.masks[n].to_mask(s.image_hw) for s, n in ((wanted, row), (got, partner))]
        differing += int(np.count_nonzero(pixels[0] != pixels[1]))
    # a single pixel is no small share of a small image
    assert differing <= max(1, mask_share * wanted.areas.sum())
    return len(wanted)
