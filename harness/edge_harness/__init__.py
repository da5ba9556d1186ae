"""Test edge inference on devices that are not on your desk.

::

    from edge_harness import fidelity, open_device

    with open_device("rpi4") as device, device.load("classifier.tflite") as session:
        fidelity.assert_finite(session.run(image))

What is named here, and what its modules name in their own ``__all__``, is public; see
docs/compatibility.md. Everything else may change at any time. Importing this package imports
nothing else: each name is brought when it is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_harness import errors, fidelity, golden, properties, strategies
    from edge_harness.clock.estimate import LatencyEstimate, Percentiles
    from edge_harness.device.controls import Storage
    from edge_harness.device.device import Device
    from edge_harness.device.results import DeviceInfo, Finding, RunResult
    from edge_harness.device.session import MemoryUse, Session, WallTime
    from edge_harness.diagnose import Diagnosis
    from edge_harness.egress.packets import Egress
    from edge_harness.engines import Limits
    from edge_harness.evidence import Figure, Verdict
    from edge_harness.fidelity.report import Report
    from edge_harness.models.tensors import Outputs, Tensor
    from edge_harness.opening import open_device
    from edge_harness.profiles import Profile

__version__ = "0.1.0"

__all__ = [
    "Device",
    "DeviceInfo",
    "Diagnosis",
    "Egress",
    "Figure",
    "Finding",
    "LatencyEstimate",
    "Limits",
    "MemoryUse",
    "Outputs",
    "Percentiles",
    "Profile",
    "Report",
    "RunResult",
    "Session",
    "Storage",
    "Tensor",
    "Verdict",
    "WallTime",
    "__version__",
    "errors",
    "fidelity",
    "golden",
    "open_device",
    "properties",
    "strategies",
]

#: Where each name is, below this package; modules are in themselves.
_PLACES = {
    "Device": "device.device",
    "DeviceInfo": "device.results",
    "Diagnosis": "diagnose",
    "Egress": "egress.packets",
    "Figure": "evidence",
    "Finding": "device.results",
    "LatencyEstimate": "clock.estimate",
    "Limits": "engines",
    "MemoryUse": "device.session",
    "Outputs": "models.tensors",
    "Percentiles": "clock.estimate",
    "Profile": "profiles",
    "Report": "fidelity.report",
    "RunResult": "device.results",
    "Session": "device.session",
    "Storage": "device.controls",
    "Tensor": "models.tensors",
    "Verdict": "evidence",
    "WallTime": "device.session",
    "errors": "errors",
    "fidelity": "fidelity",
    "golden": "golden",
    "open_device": "opening",
    "properties": "properties",
    "strategies": "strategies",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and so which names there are not

    def __getattr__(name: str) -> object:
        place = _PLACES.get(name)
        if place is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module = import_module(f"{__name__}.{place}")
        found = module if place == name else getattr(module, name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
