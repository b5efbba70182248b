"""What the panel of label mistakes says about one."""

from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.training.mistake import Mistake, MistakeAnswer, MistakeKind
from napari_deeppixel.widgets.mistakes_fixes import is_rejected, masks_of

TITLES = {
    MistakeKind.MISSING: "missing object",
    MistakeKind.SPURIOUS: "nothing there",
    MistakeKind.OUTLINE: "bad outline",
    MistakeKind.CATEGORY: "wrong category",
}


def reason_of(mistake: Mistake, session: AnnotationSession | None) -> str:
    """Return why something seems to be wrong, and what was answered if anything was."""
    reason = f"{mistake.reason[0].upper()}{mistake.reason[1:]}."
    if mistake.answer is MistakeAnswer.OPEN:
        return reason
    if mistake.answer is MistakeAnswer.DISMISSED:
        answer = captions_of(mistake)[1].lower()
    elif session is not None and is_rejected(session, mistake):
        answer = "rejected"
    else:
        answer = "set right"
    return f"Answered: {answer}. {reason}"


def extent_of(mistake: Mistake) -> tuple[int, int, int, int]:
    """Return the box round all that a mistake is about."""
    boxes = [mistake.box_xyxy, *(mask.box_xyxy for mask in masks_of(mistake))]
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def captions_of(mistake: Mistake) -> tuple[str, str]:
    """Return what the two buttons say: take what the model suggests, leave what is there."""
    match mistake.kind:
        case MistakeKind.MISSING:
            return f"Add the {mistake.category}", "No object"
        case MistakeKind.SPURIOUS:
            return "Reject it", "It is right"
        case MistakeKind.CATEGORY:
            return f"Make it {mistake.category}", "It is right"
    if mistake.more_masks:
        return f"Make it {len(mistake.more_masks) + 1} objects", "It is right"
    if mistake.more_uuids:
        return "Make them one", "They are right"
    return "Take the model's outline", "It is right"
