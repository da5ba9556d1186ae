"""A file as users write it, every expression with the type it has. Never run: mypy (test_typing.py)
and pyright (``tox -e pyright``) check it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from edge_harness import (
    Device,
    Finding,
    LatencyEstimate,
    MemoryUse,
    Outputs,
    Percentiles,
    Profile,
    Report,
    RunResult,
    Session,
    Tensor,
    __version__,
    errors,
    fidelity,
    golden,
    open_device,
    properties,
)
from edge_harness import strategies as edge
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import assert_type

Array = npt.NDArray[Any]


def test_outputs(edge_device: Device, images: list[Array]) -> None:
    with edge_device.load("model.tflite", threads=4) as session:
        assert_type(session, Session)
        outputs = session.run(images[0])
        assert_type(outputs, Outputs)
        assert_type(outputs[0], Array)
        assert_type(outputs["scores"], Array)
        assert_type(int(np.argmax(outputs[0])), int)
        assert_type(session.run_many(images), list[Outputs])
        assert_type(session.inputs[0], Tensor)
        report = fidelity.compare(session, "other.tflite", images, kind="student")
        assert_type(report, Report)
        assert report.top1_agreement >= 0.99
        assert report.sqnr_db >= 25
        assert report.max_steps <= 4
        golden.assert_golden(outputs, session=session)
        properties.check_all(session, samples=images)


def test_latency_and_memory(edge_device: Device) -> None:
    with edge_device.load("model.tflite", kernels="builtin") as session:
        latency = session.latency()
        assert_type(latency, LatencyEstimate)
        assert_type(latency.high_ms, float)
        assert_type(session.latencies([[1.0]]), Percentiles)
        memory = session.memory()
        assert_type(memory, MemoryUse)
        assert memory.peak_mib <= 64


def test_programs(edge_device: Device) -> None:
    result = edge_device.run(["true"])
    assert_type(result, RunResult)
    assert_type(result.stdout, str)
    for finding in edge_device.findings:
        assert_type(finding, Finding)
        assert finding.kind == "crash" or finding.text


@edge.settings(max_examples=5)
@given(data=st.data())
def test_strategies(edge_device: Device, data: st.DataObject) -> None:
    with edge_device.load("model.tflite") as session:
        fidelity.assert_finite(session.run(data.draw(edge.inputs(session))))


def by_hand() -> str:
    try:
        with open_device("rpi4", engine="user", needs={"offline"}) as device:
            assert_type(device, Device)
            assert_type(device.profile, Profile)
    except errors.MissingAbility as error:
        assert_type(error.next_step, str)
    return __version__
