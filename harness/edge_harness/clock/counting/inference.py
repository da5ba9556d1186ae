"""What the clock is asked about: one inference of a loaded model, with its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.clock.operators import Operator
from edge_harness.errors import InputError, MissingAbility
from edge_harness.models.samples import arrange_samples, made_up, read_samples
from edge_harness.models.tensors import Array, Tensor, arrange

if TYPE_CHECKING:
    from edge_harness.device.latency_source import LoadedModel
    from edge_harness.models.file import ModelFile
    from edge_harness.runtimes import LoadRequest

#: Of inputs that nobody gives: the same numbers on every machine.
SEED = 20240611
#: Custom operators that stand for a part of the model that was compiled for something else than
#: the board's cores, and how the names of others begin.
_ACCELERATED = frozenset(
    {"edgetpu-custom-op", "vx-delegate", "NeutronGraph", "ethos-u", "DISPATCH_OP", "QNN_CUSTOM"}
)
_ACCELERATED_PREFIXES = ("edgetpu", "vx-", "neutron")


@dataclass(frozen=True, kw_only=True)
class Inference:
    """All that decides which instructions run."""

    request: LoadRequest
    """The model's content, runtime and options; the threads to predict for."""
    inputs: tuple[Array, ...]
    """In the model's order. Their shapes are those it runs with."""

    @property
    def on_one_thread(self) -> LoadRequest:
        """What is loaded to be counted: one count serves all numbers of threads."""
        return replace(self.request, threads=1, shapes=())

    @cached_property
    def operators(self) -> list[Operator]:
        """Of the model file, in order; empty for formats that have none."""
        look = self.request.format.operators
        found: list[Operator] = look(self.request.content) if look else []
        return found

    @property
    def float_inputs(self) -> int:
        """Elements of the floating-point inputs."""
        return sum(a.size for a in self.inputs if np.issubdtype(a.dtype, np.floating))

    def refuse_other_processors(self) -> None:
        """Refuse what would run elsewhere on the board than on its cores.

        Raises:
            MissingAbility: a delegate or provider may run the model elsewhere, or it was
                compiled for an Edge TPU, a GPU or an NPU.
        """
        for name, values in self.request.off_cores().items():
            raise MissingAbility(
                f"the device clock knows the board's cores only; {name}= {', '.join(values)} may "
                "run the model elsewhere (GPU, NPU, DSP), and a guess would be worth nothing",
                next_step=f"measure on the board (ssh), or load the model without {name}=",
            )
        for operator in self.operators:
            if operator.kind in _ACCELERATED or operator.kind.startswith(_ACCELERATED_PREFIXES):
                raise MissingAbility(
                    f"{self.request.file_name!r} has the operator {operator.kind!r}, which runs on "
                    "an accelerator; the device clock knows cores only and does not guess",
                    next_step="measure it on a board, or estimate the model before it was compiled "
                    "for the accelerator",
                    details={"operator": operator.kind},
                )


def of_loaded(model: LoadedModel, inputs: Any = None, *, threads: int | None = None) -> Inference:
    """An inference of a model that is loaded somewhere, by the very version that holds it.

    Args:
        model: on whatever engine.
        inputs: as a session runs them; None for made-up ones.
        threads: to predict for; None for those it was loaded with.

    Raises:
        InputError: inputs do not fit the model.
    """
    arrays = made_up_inputs(model.inputs) if inputs is None else arrange(inputs, model.inputs)
    request = replace(
        model.request,
        requirement=model.requirement,
        threads=model.request.threads if threads is None else threads,
        shapes=(),
    )
    return Inference(request=request, inputs=tuple(arrays))


def of_file(
    model: ModelFile,
    request: LoadRequest,
    samples: Path | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> Inference:
    """An inference of a model that is loaded nowhere yet.

    Args:
        model: the file.
        request: for it.
        samples: a file of inputs, of which the first sample is taken; None for made-up ones.
        progress: told where there are more.

    Raises:
        InputError: the file of inputs cannot be read or does not fit, or inputs cannot be made up.
    """
    tensors = file_inputs(model)
    if samples is None:
        return Inference(request=request, inputs=tuple(made_up_inputs(tensors)))
    rows, _ = arrange_samples(read_samples(samples), tensors, samples)
    if progress and len(rows) > 1:
        progress(f"{str(samples)!r} has {len(rows)} samples: the first is taken")
    for array, tensor in zip(rows[0], tensors, strict=True):
        if array.dtype != tensor.dtype:
            raise InputError(
                f"{str(samples)!r} has samples of {array.dtype.name} for the input {tensor}",
                next_step=f"save them as {tensor.dtype.name}",
            )
    return Inference(request=request, inputs=tuple(arrange(rows[0], tensors)))


def file_inputs(model: ModelFile) -> list[Tensor]:
    """The inputs that a model file says it has, free dimensions as 1.

    Raises:
        InputError: one is of a type that no array has.
    """
    found = []
    for index, (name, dtype, shape) in enumerate(model.format.inputs(model)):
        if not dtype:
            raise InputError(
                f"the input {name!r} of {str(model.path)!r} is of a type that cannot be made up",
                next_step="give inputs: session.latency(inputs), or --samples FILE.npz",
            )
        found.append(
            Tensor(
                name=name, index=index, dtype=np.dtype(dtype), shape=shape, shape_signature=shape
            )
        )
    return found


def made_up_inputs(tensors: Sequence[Tensor]) -> tuple[Array, ...]:
    """Random inputs, always the same: uniform in [-1, 1) or over the whole range of 8-bit
    integers; 0 or 1 for wider ones, which are often indices.

    Raises:
        InputError: an input is not of numbers.
    """
    return made_up(((each.dtype.name, each.shape) for each in tensors), seed=SEED)
