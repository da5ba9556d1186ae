"""The int8, pruned and distilled forms of the digit classifier beside the float one, one table for
each device:

    python -m examples.compare_students rpi4 rpi5
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from edge_harness import fidelity, open_device
from edge_harness.errors import EdgeError

FIXTURES = Path(__file__).parent.parent / "fixtures"
TEACHER = FIXTURES / "models" / "digits_float.tflite"
#: What is compared, and as what: a quantized model should give its parent's values, a pruned or
#: distilled one only its answers.
FORMS: dict[str, fidelity.Kind] = {
    "digits_int8": "quantization",
    "digits_pruned_int8": "student",
    "digits_student_int8": "student",
}


def compared(device_name: str, engine: str = "auto") -> dict[str, fidelity.Report]:
    """A report for each form, on the emulated device."""
    with np.load(FIXTURES / "golden" / "digits_float.npz", allow_pickle=False) as data:
        images, labels = data["inputs"], data["labels"]
    reports = {}
    with open_device(device_name, engine=engine) as device:
        for name, kind in FORMS.items():
            with device.load(FIXTURES / "models" / f"{name}.tflite") as session:
                # Real images: each model quantizes them for itself.
                samples = [image[np.newaxis] for image in images]
                reports[name] = fidelity.compare(
                    session, TEACHER, samples, kind=kind, labels=labels
                )
    return reports


def main(names: list[str]) -> int:
    for name in names or ["rpi4"]:
        print(f"{name}: beside {TEACHER.name}")
        reports = compared(name)
        print(fidelity.table_text(reports), end="\n\n")
        for form, report in reports.items():
            for failure in report.failures:
                print(f"  {form}: {failure}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except EdgeError as error:
        sys.exit(str(error))
