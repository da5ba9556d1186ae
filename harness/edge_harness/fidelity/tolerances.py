"""What counts as faithful unless a user says otherwise, each figure with its source.

Every field can be overridden: ``compare(…, tolerances=Tolerances(max_steps=2))`` or
``tolerances={"max_steps": 2}`` in code, ``@pytest.mark.edge_fidelity(max_steps=2)`` on a test,
``edge_fidelity = max_steps=2`` in the ini file; the closest counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace

from edge_harness.errors import OptionError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Limits of :func:`edge_harness.fidelity.compare` and :func:`edge_harness.fidelity.layers`.

    Port fidelity (the same file on the device and by a trusted execution) looks at ``max_steps``
    for integer outputs and at ``rtol`` and ``atol`` for real ones. Quantization fidelity (another
    model as reference) looks at the rest.
    """

    # -- port fidelity -----------------------------------------------------------------------

    max_steps: float = 1.0
    """Greatest distance of integer outputs, in quantization steps. Kernels of
    TFLite that round once and kernels that round twice differ by one, and both are right
    (tensorflow issue 102943); optimised kernels of tflite-runtime 2.14 differ from its reference
    kernels by one in most layers of MobileNet v2 (measured)."""
    rtol: float = 1e-5
    atol: float = 1e-5
    """Real outputs in float32 or float64: ``|device - reference| <= atol + rtol * |reference|``.
    Polygraphy's defaults (tools/Polygraphy: ``polygraphy run --rtol --atol``, both 1e-5)."""
    rtol_float16: float = 1e-3
    atol_float16: float = 1e-3
    """For float16 outputs. ``torch.testing.assert_close`` takes rtol 1e-3 for one operator; the
    absolute part is one unit in the last place at 1."""

    # -- quantization fidelity ---------------------------------------------------------------

    sqnr_db: float = 20.0
    """Least signal to quantization-noise ratio. Polygraphy's default for SNR
    (``PostprocessFunc``/``--snr-tolerance``: 20 dB)."""
    cosine: float = 0.997
    """Least cosine of the worst sample. Polygraphy's default. Never a gate by itself: an int8
    model that was off by 313 had 0.994."""
    top1_agreement: float = 0.99
    """Least share of samples with the reference's answer. MLPerf Inference demands 99 % of the
    reference's accuracy; an agreement of 99 % cannot lose more than that."""
    accuracy_ratio: float = 0.99
    """Least accuracy as a share of the reference's, where labels are given. MLPerf Inference
    rules: 99 % of the FP32 reference."""
    kl: float = math.inf
    """Greatest mean Kullback-Leibler divergence of probability outputs, in nats. No limit: there
    is none in common use."""

    # -- layer by layer ----------------------------------------------------------------------

    layer_steps: float = 1.0
    """What one operator may add, in steps of its output; as ``max_steps``."""
    layer_rtol: float = 1e-4
    """What one float operator may add, as a share of the greatest value of its output: about a
    thousand units in the last place, for sums in another order."""
    layer_rtol_float16: float = 5e-3
    layer_gain: float = 0.005
    """How much larger or smaller the values of a quantized operator may be as a whole. Rounding
    does not scale; half of the 1 % that a wrong scale is usually worth noticing at."""
    layer_offset_steps: float = 0.5
    """How far the mean of a channel may be shifted, in steps. Rounding to nearest is unbiased;
    half a step is what truncation costs, one a zero point that is off by one."""
    layer_sqnr_db: float = 20.0
    """Least ratio that one operator may leave, beside a float parent."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
                raise OptionError(
                    f"the tolerance {field.name}={value!r} is not a number",
                    next_step=f"the default is {field.name}={field.default!r}",
                )

    def but(self, changes: Mapping[str, float]) -> Tolerances:
        """These, with ``changes``.

        Raises:
            OptionError: there is no such tolerance.
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                hint = did_you_mean(name, known)
                raise OptionError(
                    f"there is no tolerance {name!r}{hint}",
                    next_step=f"use some of: {', '.join(known)}",
                )
        return replace(self, **changes)


DEFAULTS = Tolerances()
_CURRENT: ContextVar[Tolerances] = ContextVar("edge_harness_tolerances", default=DEFAULTS)


def current() -> Tolerances:
    """The tolerances of the running test: the defaults, changed by ini file and mark."""
    return _CURRENT.get()


@contextmanager
def tolerances(changes: Mapping[str, float]) -> Iterator[Tolerances]:
    """Within the block, ``changes`` are the defaults."""
    token = _CURRENT.set(current().but(changes))
    try:
        yield current()
    finally:
        _CURRENT.reset(token)


def chosen(given: Tolerances | Mapping[str, float] | None) -> Tolerances:
    """What an argument ``tolerances=`` means."""
    if isinstance(given, Tolerances):
        return given
    return current().but(given or {})


def parse_tolerances(words: Sequence[str]) -> dict[str, float]:
    """``name=number`` words.

    Raises:
        OptionError: a word is not of that form.
    """
    found = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            raise OptionError(
                f"the tolerance {word!r} is not of the form name=number",
                next_step="write it as max_steps=2",
            ) from None
    return found


__all__ = ["DEFAULTS", "Tolerances", "chosen", "current", "parse_tolerances", "tolerances"]
