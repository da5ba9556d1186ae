"""Record how programs and models really end on devices, for tests/unit/test_deaths.py.

    python tests/record_deaths.py [NAME …]

Each case runs on an emulated device; what the device's explainer was asked, word for word, goes
to ``tests/unit/data/deaths.json``: exit status, log, memory figures, and a core dump cut to its
notes and the page at the program counter. What is right about each is written by hand in the
test. Needs the engines ``user`` and ``vm``, and a Docker Engine for the container's OOM killer;
names on the command line record these cases only.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

from edge_harness import Device, open_device
from edge_harness.diagnose import Explainer, FailedLoad
from edge_harness.diagnose.core import BadCore, Core
from edge_harness.engines import Limits
from edge_harness.errors import EdgeError

HERE = Path(__file__).parent
DATA = HERE / "unit" / "data" / "deaths.json"
MODELS = HERE.parent / "fixtures" / "models"
#: Longer logs are cut: their ends are what counts.
MOST_LINES = 40

#: Calls the Arm instruction of the given bytes, then RET.
CALL = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('{code}') + bytes.fromhex('c0035fd6'))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
BEYOND_END = """
import mmap, os, tempfile
file = tempfile.TemporaryFile()
file.truncate(8192)
memory = mmap.mmap(file.fileno(), 8192)
file.truncate(0)
memory[5000]
"""
THROW = """
import ctypes
new = ctypes.CDLL('libstdc++.so.6')._Znwm
new.argtypes = [ctypes.c_size_t]
new(1 << 62)
"""
RAISE = "import os, signal; os.kill(os.getpid(), signal.{name})"
EAT = "l = []\nwhile 1: l.append(b'x' * (16 << 20))"
SECOND_PAGE = """
import mmap, os
file = os.open('/bin/bash', os.O_RDONLY)
mmap.mmap(file, 4096, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE, offset=4096)
"""


def python(script: str) -> list[str]:
    return ["python3", "-c", textwrap.dedent(script).strip()]


#: {case: argv}, on the user engine's rpi4.
PROGRAMS = {
    "atomics": python(CALL.format(code="4100e0b8")),
    "half-precision": python(CALL.format(code="01fc010f")),
    "trap-instruction": python(CALL.format(code="07000000")),
    "null-pointer": python("import ctypes; ctypes.string_at(0)"),
    "beyond-the-end-of-a-file": python(BEYOND_END),
    "abort": python("import os; os.abort()"),
    "bad-alloc": python(THROW),
    "memory-error": python("x = bytearray(1 << 60)"),
    "killed-by-itself": python(RAISE.format(name="SIGKILL")),
    "terminated": python(RAISE.format(name="SIGTERM")),
    "division": python(RAISE.format(name="SIGFPE")),
    "breakpoint": python(RAISE.format(name="SIGTRAP")),
    "system-call": python(RAISE.format(name="SIGSYS")),
    "exit-3": ["sh", "-c", "echo cannot open the camera >&2; exit 3"],
    "exit-200": ["sh", "-c", "exit 200"],
    "exception": python("raise ValueError('no such layer')"),
    "not-found": ["sh", "-c", "no-such-program"],
    "endless": python("print('still here', flush=True)\nwhile True: pass"),
}
#: The same on a whole board, where programs start programs: shells report a signal as 128 + N.
IN_A_SHELL = {
    "null-pointer-in-a-shell": [
        "sh",
        "-c",
        "python3 -c 'import ctypes; ctypes.string_at(0)'; exit $?",
    ],
    "abort-in-a-shell": ["sh", "-c", "sh -c 'kill -ABRT $$'; exit $?"],
    "killed-in-a-shell": ["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"],
    "illegal-instruction-in-a-shell": ["sh", "-c", "sh -c 'kill -ILL $$'; exit $?"],
    "bus-error-in-a-shell": ["sh", "-c", "sh -c 'kill -BUS $$'; exit $?"],
}
TIMEOUT_S = {"endless": 3.0}


class Recorder:
    """Notes what explainers are asked."""

    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []

    def patch(self) -> None:
        for name in ("process_end", "device_end", "out_of_memory", "timed_out"):
            setattr(Explainer, name, self._noting(name, getattr(Explainer, name)))
        FailedLoad.error = self._noting_load(FailedLoad.error)  # type: ignore[method-assign]

    def _noting(self, name, method):
        def noted(explainer, *args, **options):
            core = _cut_core(explainer.cores) if name == "process_end" else ""
            note = {
                "device": explainer.device,
                "emulator_counts": explainer.emulator_counts,
                "emulated": explainer.emulated,
                "board_cpu": explainer.board_cpu,
                "memory_limit": explainer.memory_limit,
                "asked": name,
                "args": _plain(args),
                "options": _plain(options),
            }
            self.seen.append({**note, "core": core} if core else note)
            return method(explainer, *args, **options)

        return noted

    def _noting_load(self, method):
        def noted(load, said):
            self.seen.append(
                {
                    "device": load.device,
                    "asked": "load",
                    "options": {
                        "model": Path(load.model).name,
                        "model_bytes": load.model_bytes,
                        "runtime": load.runtime,
                        "requirement": load.requirement,
                    },
                    "args": [_short(said)],
                }
            )
            return method(load, said)

        return noted


def _plain(value):
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key not in ("stdout", "stderr")}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "items"):
        return _plain(dict(value))
    return value


def _short(text: str) -> str:
    cut = "\n".join(text.splitlines()[-MOST_LINES:])
    return cut.replace(str(HERE.parent), "/project").replace(tempfile.gettempdir(), "/tmp")


def _cut_core(folder: Path) -> str:
    """The newest core dump of ``folder``: its notes, and the page at the program counter."""
    cores = sorted(
        {*folder.glob("*.core"), *folder.glob("core*")}, key=lambda path: path.stat().st_mtime
    )
    if not cores:
        return ""
    data = cores[-1].read_bytes()
    try:
        with cores[-1].open("rb") as file:
            core = Core(file)
            counter, _ = core.counter()
            start = counter & ~0xFFF
            page = core.read(start, 4096)
    except BadCore:
        return ""
    if data[4] != 2:
        return ""  # 64-bit only
    (headers,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    notes = b""
    for index in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, headers + index * size)
        if kind == 4:
            notes = data[offset : offset + length]
    parts = [(4, notes, 0)] + ([(1, page.rstrip(b"\0") + bytes(16), start)] if page else [])
    place = 64 + 56 * len(parts)
    head = data[:32] + struct.pack("<Q", 64) + data[40:56] + struct.pack("<H", len(parts))
    head += data[58:64]
    body = b""
    for kind, content, address in parts:
        head += struct.pack(
            "<IIQQQQQQ", kind, 5, place + len(body), address, 0, len(content), len(content), 4
        )
        body += content
    return base64.b64encode(head + body).decode()


def _quietly(action) -> None:
    try:
        result = action()
        check = getattr(result, "check", None)
        if check is not None:
            check()
    except EdgeError as error:
        print("   ", str(error).splitlines()[0])


def _broken_models(folder: Path) -> dict[str, tuple[Path, str]]:
    """{case: (model, runtime)}"""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    digits = (MODELS / "digits_int8.tflite").read_bytes()
    add = (MODELS / "add_float.onnx").read_bytes()

    def wrote(name: str, content: bytes) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    def graph(node, *, opset: int = 13, domain: str = "", ir: int = 8, inputs=("x",)) -> bytes:
        value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in (*inputs, "y")]
        made = helper.make_graph([node], "g", value[:-1], value[-1:])
        imports = [helper.make_opsetid("", opset)]
        if domain:
            imports.append(helper.make_opsetid(domain, 1))
        model = helper.make_model(made, opset_imports=imports, ir_version=ir)
        return model.SerializeToString()

    relu = helper.make_node("Relu", ["x"], ["y"])
    weights = numpy_helper.from_array(np.zeros((2, 2), np.float32), "w")
    mismatch = onnx.load_model_from_string(graph(helper.make_node("MatMul", ["x", "w"], ["y"])))
    mismatch.graph.initializer.append(weights)
    custom = digits.replace(b"TFL3", b"TFL3")
    return {
        "tflite-cut-short": (wrote("cut.tflite", digits[: len(digits) // 2]), "tflite"),
        "tflite-cut-short-in-litert": (wrote("cut.tflite", digits[: len(digits) // 2]), "litert"),
        "tflite-bytes-changed": (
            wrote("bytes.tflite", custom[:40] + b"\xff" * 60 + custom[100:]),
            "tflite",
        ),
        "onnx-cut-short": (wrote("cut.onnx", add[: len(add) // 2]), "onnxruntime"),
        "onnx-ir-too-new": (wrote("ir.onnx", graph(relu, ir=99)), "onnxruntime"),
        "onnx-opset-too-new": (wrote("opset.onnx", graph(relu, opset=99)), "onnxruntime"),
        "onnx-unknown-operator": (
            wrote("op.onnx", graph(helper.make_node("Twist", ["x"], ["y"]))),
            "onnxruntime",
        ),
        "onnx-unknown-domain": (
            wrote(
                "dom.onnx",
                graph(helper.make_node("Twist", ["x"], ["y"], domain="acme"), domain="acme"),
            ),
            "onnxruntime",
        ),
        "onnx-shapes-disagree": (wrote("shapes.onnx", mismatch.SerializeToString()), "onnxruntime"),
    }


def main(wanted: list[str]) -> None:
    recorder = Recorder()
    recorder.patch()
    records = json.loads(DATA.read_text()) if DATA.exists() else {}

    def record(name: str, action) -> None:
        if wanted and name not in wanted:
            return
        recorder.seen.clear()
        print(name)
        _quietly(action)
        if recorder.seen:
            records[name] = dict(recorder.seen[0])
        else:
            print("    nothing was asked")

    def program(device: Device, name: str, argv: list[str], **options) -> None:
        options.setdefault("timeout_s", TIMEOUT_S.get(name, 60.0))
        record(name, lambda: device.run(argv, **options))

    with open_device("rpi4", engine="user") as device, tempfile.TemporaryDirectory() as folder:
        for name, argv in PROGRAMS.items():
            program(device, name, argv)
        program(
            device,
            "numpy-memory-error",
            python("import numpy; numpy.zeros((1 << 40, 1 << 10))"),
            requirements=["onnxruntime==1.20.1"],
        )
        program(
            device,
            "onnxruntime-1.21.0",
            python("import onnxruntime"),
            requirements=["onnxruntime==1.21.0"],
        )
        for name, (model, runtime) in _broken_models(Path(folder)).items():
            record(name, lambda: device.load(model, runtime=runtime))  # noqa: B023
        cases = os.environ.get("EDGE_DEATH_MODELS")  # more models to record: *.tflite, *.onnx
        for model in sorted(Path(cases).glob("*.*")) if cases else []:
            record(f"model-{model.name}", lambda: device.load(model))  # noqa: B023
            if model.suffix == ".tflite":
                name = f"model-{model.name}-in-litert"
                record(name, lambda: device.load(model, runtime="litert"))  # noqa: B023
    with open_device("rpi4", engine="user") as device:

        def killed() -> None:
            pid = device.hold.machine.record()["pid"]
            threading.Timer(1.0, lambda: os.killpg(pid, signal.SIGKILL)).start()
            device.run(["sleep", "20"])

        record("device-killed", killed)
    for name, engine, options in (
        ("oom-in-a-container", "docker", {"limits": Limits(memory_mib=200)}),
        ("oom-on-a-board", "vm", {}),
    ):
        if wanted and not {name, f"{name}-in-a-shell", *IN_A_SHELL} & set(wanted):
            continue
        try:
            with open_device(
                "rpi4" if engine == "docker" else "rpi3b", engine=engine, **options
            ) as device:
                program(device, name, python(EAT))
                program(device, f"{name}-in-a-shell", ["sh", "-c", f'python3 -c "{EAT}"; exit $?'])
                if engine == "vm":
                    for shell, argv in IN_A_SHELL.items():
                        program(device, shell, argv)
        except EdgeError as error:
            print(f"{name}: not recorded: {error}")
    if not wanted or "second-page" in wanted:
        with open_device("rpi5", engine="vm") as device:
            program(device, "second-page", python(SECOND_PAGE))
    DATA.write_text(json.dumps(records, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{len(records)} cases in {DATA}")


if __name__ == "__main__":
    main(sys.argv[1:])
