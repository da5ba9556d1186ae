"""x86 is wrong, the device is right: int8 products that saturate in 16 bits.

    python -m examples.u8s8_saturation --device rpi4

Without VNNI, ONNX Runtime's AVX2 kernel for U8 activations and S8 weights multiplies with
VPMADDUBSW, which adds two products in saturating 16 bits: 2 * 255 * 127 = 64770 becomes 32767
(onnxruntime issues 6004 and 20479; Intel's manual, VPMADDUBSW). Arm's kernels add in 32 bits.
The model is one MatMulInteger, so exact integer arithmetic is a plain matrix product of Python's
integers, and every run is held against it:

- natively on this machine, whose processor may have VNNI (or be an Arm) and then is right too;
- on an emulated x86 box with AVX2 and without VNNI, the profile edge-server;
- on the device.

The exit status is 0 when the device is exact and the x86 box is not.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    sys.exit("this script needs the package onnx\n  next: pip install 'pytest-edge-harness[onnx]'")

from edge_harness import open_device
from edge_harness.errors import EdgeError

ROWS, INNER, COLUMNS = 4, 64, 32
SEED = 6004
X86_BOX = "edge-server"
Integers = npt.NDArray[np.int64]


def write_model(path: Path) -> npt.NDArray[np.int8]:
    """A MatMulInteger of U8 activations with constant S8 weights; returns the weights."""
    weights = np.random.default_rng(SEED).integers(-128, 128, (INNER, COLUMNS), dtype=np.int8)
    node = helper.make_node("MatMulInteger", ["x", "weights", "zero"], ["y"])
    graph = helper.make_graph(
        [node],
        "u8s8",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [ROWS, INNER])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [ROWS, COLUMNS])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.asarray(128, np.uint8), "zero"),
        ],
    )
    # Opset 10 brought MatMulInteger.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return weights


def activations() -> npt.NDArray[np.uint8]:
    """Bright inputs, as a ReLU's largest outputs are: 200 to 255."""
    return np.random.default_rng(SEED + 1).integers(200, 256, (ROWS, INNER), dtype=np.uint8)


def exact(x: npt.NDArray[np.uint8], weights: npt.NDArray[np.int8]) -> Integers:
    """The product in integers that cannot overflow."""
    return (x.astype(np.int64) - 128) @ weights.astype(np.int64)


def saturating(x: npt.NDArray[np.uint8], weights: npt.NDArray[np.int8]) -> Integers:
    """What VPMADDUBSW makes of it: pairs of products are added in saturating 16 bits, and the
    activations' zero point is taken off afterwards."""
    products = x.astype(np.int64)[:, :, None] * weights.astype(np.int64)
    pairs = products[:, 0::2] + products[:, 1::2]
    sums: Integers = np.clip(pairs, -32768, 32767).sum(axis=1)
    surplus: Integers = 128 * weights.astype(np.int64).sum(axis=0)
    return sums - surplus


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run against the exact product."""

    side: str
    worst: int
    wrong: int
    cosine: float
    saturates: bool
    """Whether the values are exactly those of VPMADDUBSW."""

    def __str__(self) -> str:
        if not self.worst:
            return f"{self.side}: exact"
        kind = ", and equals saturating 16-bit pairs to the last bit" if self.saturates else ""
        return (
            f"{self.side}: WRONG by up to {self.worst} in {self.wrong} of {ROWS * COLUMNS} values, "
            f"cosine {self.cosine:.4f}{kind}"
        )


def run_on(profile: str, engine: str, model: Path, runtime: str, side: str) -> Run:
    """Run the model on ``profile``."""
    weights = numpy_helper.to_array(onnx.load(str(model)).graph.initializer[0])
    x = activations()
    wanted = exact(x, weights)
    with (
        open_device(profile, engine=engine) as device,
        device.load(model, runtime=runtime) as session,
    ):
        actual = session.run(x)["y"].astype(np.int64)
    off = np.abs(actual - wanted)
    return Run(
        side=side,
        worst=int(off.max()),
        wrong=int(np.count_nonzero(off)),
        cosine=float(
            (actual * wanted).sum() / np.sqrt(float((actual**2).sum()) * float((wanted**2).sum()))
        ),
        saturates=bool(np.array_equal(actual, saturating(x, weights))),
    )


def this_processor() -> str:
    """What this machine's processor has, as Linux says."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"{platform.machine()}, not an x86"
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "an x86 of unknown features"
    flags = next((s.split(":")[1].split() for s in text.splitlines() if s.startswith("flags")), [])
    has = [flag for flag in ("avx2", "avx_vnni", "avx512_vnni") if flag in flags]
    without = "" if any("vnni" in flag for flag in has) else ", without VNNI"
    return f"x86 with {', '.join(has) or 'neither AVX2 nor VNNI'}{without}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="rpi4", help="names, comma-separated")
    parser.add_argument("--engine", default="user", help="what runs them (default: user)")
    parser.add_argument("--runtime", default="onnxruntime==1.20.1")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "u8s8.onnx"
        write_model(model)
        names = asked.device.split(",")
        print(f"{asked.runtime}, MatMulInteger U8 x S8, against exact integer arithmetic")
        native = run_on(names[0], "host", model, asked.runtime, f"native ({this_processor()})")
        print(native, flush=True)
        box = run_on(
            X86_BOX, "user", model, asked.runtime, f"{X86_BOX} (emulated x86 with AVX2, no VNNI)"
        )
        print(box, flush=True)
        devices = [run_on(n, asked.engine, model, asked.runtime, f"{n} (emulated)") for n in names]
        print("\n".join(map(str, devices)))
    right = all(run.worst == 0 for run in devices)
    if right and box.worst:
        print("x86 is wrong, the device is right")
        return 0
    print("not reproduced: " + ("the device is not exact" if not right else "the x86 box is exact"))
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgeError as error:
        sys.exit(str(error))
