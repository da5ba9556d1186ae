"""Mistakes that a type checker should find: each line with one says so, and no other has one."""

from __future__ import annotations

import edge_harness
from edge_harness import Device, Outputs, Session, fidelity


def a_name_that_is_not_public() -> object:
    return edge_harness.Devise  # error


def kernels_that_there_are_not(device: Device) -> Session:
    return device.load("model.tflite", kernels="xnpack")  # error


def a_kind_that_there_is_not(session: Session) -> None:
    fidelity.compare(session, "model.tflite", [], kind="copy")  # error


def an_array_as_text(outputs: Outputs) -> str:
    return outputs[0]  # error
