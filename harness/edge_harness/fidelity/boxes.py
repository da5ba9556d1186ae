"""Detections compared: intersection over union, and mean average precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_harness.errors import InputError

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Boxes of one image: ``boxes`` (n, 4) as two opposite corners (x1, y1, x2, y2 or y1, x1, y2,
    x2), ``classes`` (n,), ``scores`` (n,); ground truth has no scores."""

    boxes: npt.ArrayLike
    classes: npt.ArrayLike
    scores: npt.ArrayLike = ()


def iou(left: npt.ArrayLike, right: npt.ArrayLike) -> Reals:
    """Intersection over union of each of ``left`` (n, 4) with each of ``right`` (m, 4): (n, m).

    Raises:
        InputError: not boxes, or not finite.
    """
    a, b = _boxes(left), _boxes(right)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(x[:, 2:] - x[:, :2], 0, None), axis=1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    result: Reals = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def _boxes(values: npt.ArrayLike) -> Reals:
    boxes: Reals = (
        np.asarray(values, np.float64).reshape(-1, 4) if np.size(values) else (np.zeros((0, 4)))
    )
    if not np.all(np.isfinite(boxes)):
        raise InputError("a box is not finite", next_step="look at the model's raw outputs")
    return boxes


def mean_average_precision(
    detections: Sequence[Detections],
    truths: Sequence[Detections],
    *,
    thresholds: Iterable[float] = (0.5,),
) -> float:
    """Mean over classes and ``thresholds`` of the area under the precision-recall curve.

    As PASCAL VOC since 2010: precision made monotone, every point counted, each true box found
    once. COCO's figure is the one with ``thresholds=np.arange(0.5, 1.0, 0.05)``, but for its 101
    recall points. The reference model's detections may stand in for the truth.

    Raises:
        InputError: the images do not correspond, or there is no true box.
    """
    if len(detections) != len(truths):
        raise InputError(
            f"detections of {len(detections)} images, truths of {len(truths)}",
            next_step="pass one of each for every image",
        )
    classes = sorted({int(c) for truth in truths for c in np.asarray(truth.classes).ravel()})
    if not classes:
        raise InputError("there is no true box", next_step="use images with something on them")
    found = [
        _average_precision(detections, truths, kind, threshold)
        for threshold in thresholds
        for kind in classes
    ]
    return float(np.mean(found))


def _average_precision(
    detections: Sequence[Detections], truths: Sequence[Detections], kind: int, threshold: float
) -> float:
    wanted = [_boxes(t.boxes)[np.asarray(t.classes).ravel() == kind] for t in truths]
    total = sum(len(boxes) for boxes in wanted)
    rows: list[tuple[float, int, Reals]] = []
    for image, each in enumerate(detections):
        boxes, scores = _boxes(each.boxes), np.asarray(each.scores, np.float64).ravel()
        if scores.size != len(boxes):
            raise InputError(
                f"{len(boxes)} boxes with {scores.size} scores", next_step="give each box a score"
            )
        chosen = np.asarray(each.classes).ravel() == kind
        rows += [(float(s), image, b) for s, b in zip(scores[chosen], boxes[chosen], strict=True)]
    rows.sort(key=lambda row: -row[0])
    used = [np.zeros(len(boxes), bool) for boxes in wanted]
    hits = np.zeros(len(rows))
    for place, (_, image, box) in enumerate(rows):
        if not len(wanted[image]):
            continue
        overlaps = iou(box, wanted[image])[0]
        best = int(np.argmax(overlaps))
        if overlaps[best] >= threshold and not used[image][best]:
            used[image][best] = True
            hits[place] = 1
    if not rows:
        return 0.0
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(rows) + 1)
    recall = right / total
    # Monotone from the right, then the area under the steps.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    widths = np.diff(np.concatenate([[0.0], recall]))
    return float(np.sum(widths * precision))
