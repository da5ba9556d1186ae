"""Recorded ends of programs, devices and loads (tests/record_deaths.py), and what is right about
each: class, cause, sentence and next step."""

import base64
import json
import signal
from dataclasses import dataclass
from pathlib import Path

import edge_harness.errors
import pytest
from edge_harness.diagnose import Explainer, FailedLoad
from edge_harness.diagnose.explain import CRASHES
from edge_harness.diagnose.memory import memory_sign
from edge_harness.diagnose.pages import page_size_hint
from edge_harness.errors import DeviceFailed
from edge_harness.profiles import default_registry

RECORDED = json.loads((Path(__file__).parent / "data" / "deaths.json").read_text())
OTHER_BOARD = "use a build without that feature, or a board that has it: --device="
SMALLER = "use a smaller model or input, or raise the limit (--edge-memory-mib)"
ABOVE = "its output above says why"
ANOTHER_CPU = "run the same on another device profile to see whether it is this CPU"


@dataclass(frozen=True)
class Right:
    """What an explanation must be."""

    error: str
    says: tuple[str, ...]
    """Parts of the message, in this order."""
    next_step: str
    """How it begins."""
    never: tuple[str, ...] = ()


KILLED = Right(
    "ProcessDied",
    ("died of SIGKILL while running", "killed from outside: no memory limit was hit"),
    "find out what ended it",
    ("memory while",),
)
RIGHT = {
    "atomics": Right(
        "IllegalInstruction",
        (
            "rpi4 died of SIGILL while running",
            "the Cortex-A72 of rpi4 cannot execute 'ldaddal w0, w1, [x2]'",
            "it lacks FEAT_LSE",
            "0xb8e00041",
            "atomic instructions (from Armv8.1-A)",
            "first board: rpi5",
            "found from:  the process's core dump",
        ),
        OTHER_BOARD + "rpi5",
    ),
    "half-precision": Right(
        "IllegalInstruction",
        ("cannot execute 'fmov v1.4h", "it lacks FEAT_FP16", "first board: rpi5"),
        OTHER_BOARD + "rpi5",
    ),
    "onnxruntime-1.21.0": Right(
        "IllegalInstruction",
        ("died of SIGILL", "fmov v1.4h, #0.5", "it lacks FEAT_FP16", "0x0f03fc01"),
        OTHER_BOARD + "rpi5",
    ),
    "trap-instruction": Right(
        "IllegalInstruction",
        ("died of SIGILL", "deliberate: the program ran into UDF #7"),
        ANOTHER_CPU,
        ("lacks", "first board"),
    ),
    "illegal-instruction-in-a-shell": Right(
        "IllegalInstruction", ("rpi3b died of SIGILL", "its bytes are not known"), ANOTHER_CPU
    ),
    "null-pointer": Right(
        "Segfault",
        ("rpi4 died of SIGSEGV while running", "core dump", "its last words", "signal 11"),
        ANOTHER_CPU,
    ),
    "null-pointer-in-a-shell": Right(
        "Segfault", ("rpi3b died of SIGSEGV while running", "Segmentation fault"), ANOTHER_CPU
    ),
    "model-tflite-12-0.tflite": Right(
        "Segfault", ("died of SIGSEGV while loading the model",), ANOTHER_CPU
    ),
    "beyond-the-end-of-a-file": Right(
        "BusError",
        ("died of SIGBUS", "the place is not known", "the emulator's, not the program's"),
        ANOTHER_CPU,
        ("instruction:", "qemu-"),
    ),
    "bus-error-in-a-shell": Right("BusError", ("rpi3b died of SIGBUS",), ANOTHER_CPU),
    "abort": Right("ProcessDied", ("died of SIGABRT", "its last words"), ANOTHER_CPU),
    "abort-in-a-shell": Right("ProcessDied", ("died of SIGABRT",), ANOTHER_CPU),
    "division": Right("ProcessDied", ("died of SIGFPE",), ANOTHER_CPU),
    "breakpoint": Right("ProcessDied", ("died of SIGTRAP",), ANOTHER_CPU),
    "system-call": Right("ProcessDied", ("died of SIGSYS", "the emulator's"), ANOTHER_CPU),
    "terminated": Right(
        "ProcessDied", ("died of SIGTERM",), ANOTHER_CPU, ("from outside", "core dump")
    ),
    "killed-by-itself": KILLED,
    "killed-in-a-shell": KILLED,
    "bad-alloc": Right(
        "OutOfMemory",
        ("rpi4 ran out of memory while running", "no limit known (std::bad_alloc)", "emulator's"),
        SMALLER,
    ),
    "memory-error": Right("OutOfMemory", ("ran out of memory", "(MemoryError)"), SMALLER),
    "numpy-memory-error": Right(
        "OutOfMemory", ("ran out of memory", "(NumPy's MemoryError)"), SMALLER
    ),
    "oom-on-a-board": Right(
        "OutOfMemory",
        (
            "rpi3b ran out of memory while running",
            "limit 909 MiB, peak",
            "(SIGKILL); killed by the board's own kernel, peak is that of the process",
        ),
        SMALLER,
        ("from outside",),
    ),
    "oom-on-a-board-in-a-shell": Right(
        "OutOfMemory", ("ran out of memory", "limit 909 MiB, peak"), SMALLER
    ),
    "exit-3": Right(
        "ProcessDied",
        (
            "rpi4 ended with exit status 3 while running",
            "its last words ---\ncannot open the camera",
        ),
        ABOVE,
    ),
    "exit-200": Right(
        "ProcessDied",
        ("ended with exit status 200",),
        "it wrote nothing to standard error",
        ("signal", "SIG", "above"),
    ),
    "exception": Right("ProcessDied", ("exit status 1", "ValueError: no such layer"), ABOVE),
    "not-found": Right("ProcessDied", ("exit status 127", "no-such-program: not found"), ABOVE),
    "second-page": Right(
        "ProcessDied",
        (
            "rpi5 ended with exit status 1",
            "this device has pages of 16 KiB, and programs made for 4 KiB pages fail on it",
        ),
        "make the program ask for the page size (sysconf(_SC_PAGESIZE))",
    ),
    "endless": Right(
        "DeviceTimeout",
        ("'python3' on rpi4 was not done running", "after 3 s", "its last words ---\nstill here"),
        "raise timeout_s (emulation is 10 to 100 times slower than the board)",
    ),
    "device-killed": Right(
        "RuntimeFailed",
        ("rpi4 went down while running ['sleep', '20']", "its first process was ended by SIGKILL"),
        "it is started again for the next test",
    ),
    "onnx-cut-short": Right(
        "ModelError",
        ("the model file 'cut.onnx' (65 bytes) is damaged", "protobuf parsing failed"),
        "export or download it again",
    ),
    "onnx-shapes-disagree": Right(
        "ModelError", ("contradicts itself", "Incompatible dimensions"), "export or download it"
    ),
    "onnx-ir-too-new": Right(
        "UnsupportedModel",
        ("onnxruntime 1.20.1 on rpi4 cannot execute 'ir.onnx'", "max supported IR version: 10"),
        "choose a runtime that is newer than the model",
    ),
    "onnx-opset-too-new": Right(
        "UnsupportedModel", ("cannot execute", "Opset 99"), "choose a runtime that is newer"
    ),
    "onnx-unknown-operator": Right(
        "UnsupportedModel", ("cannot execute", "Twist"), "convert the model for this runtime's"
    ),
    "onnx-unknown-domain": Right(
        "UnsupportedModel", ("cannot execute", "acme:Twist"), "convert the model for this runtime's"
    ),
    "model-conv_ir12.onnx": Right(
        "UnsupportedModel", ("IR version: 12",), "choose a runtime that is newer than the model"
    ),
    "model-conv_opt_x86.onnx": Right(
        "UnsupportedModel", ("com.microsoft.nchwc",), "it was saved optimised for the vector"
    ),
    "model-fc_v12.tflite": Right(
        "UnsupportedModel", ("FULLY_CONNECTED' version '12'",), "choose a runtime that is newer"
    ),
    "model-flex.tflite": Right(
        "UnsupportedModel", ("FlexErf",), "convert it to built-in operators alone"
    ),
    "model-flex.tflite-in-litert": Right(
        "UnsupportedModel", ("Flex",), "convert it to built-in operators alone"
    ),
}


def explained(record, folder):
    if record["asked"] == "load":
        return FailedLoad(device=record["device"], **record["options"]).error(*record["args"])
    profile = default_registry().get(record["device"])
    explainer = Explainer(
        device=record["device"],
        profile=profile,
        find=lambda path: None,
        cores=folder,
        emulator_counts=record["emulator_counts"],
        emulated=record.get("emulated", True),
        board_cpu=record.get("board_cpu", True),
        memory_limit=record.get("memory_limit", True),
    )
    if "core" in record:
        name = record["args"][0].get("core") or "qemu_1.core"
        (folder / name).write_bytes(base64.b64decode(record["core"]))
    found = getattr(explainer, record["asked"])(*record["args"], **record["options"])
    assert not list(folder.iterdir()), "a core dump that was read is deleted"
    return found[0] if record["asked"] == "process_end" else found


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_end_has_its_class_cause_sentence_and_next_step(name, tmp_path):
    right, error = RIGHT[name], explained(RECORDED[name], tmp_path)
    assert type(error).__name__ == right.error
    place = 0
    for part in right.says:
        place = error.message.find(part, place)
        assert place >= 0, f"{part!r} is not, or not there, in:\n{error.message}"
    assert error.next_step.startswith(right.next_step)
    for part in right.never:
        assert part not in str(error)
    assert error.details["device"] == RECORDED[name]["device"]


def test_everything_recorded_is_told_and_everything_told_was_recorded():
    assert set(RIGHT) == set(RECORDED)


def test_every_class_of_a_failed_device_is_among_them():
    classes = {
        name
        for name, each in vars(edge_harness.errors).items()
        if isinstance(each, type) and issubclass(each, DeviceFailed) and each is not DeviceFailed
    }
    assert classes <= {right.error for right in RIGHT.values()}


def test_every_signal_of_a_crash_is_among_them():
    seen = {
        record["args"][0]["signal"]
        for record in RECORDED.values()
        if record["asked"] == "process_end"
    }
    assert set(CRASHES) == {
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGFPE,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
    assert set(CRASHES) <= seen


@pytest.fixture
def explainer(tmp_path):
    def made(device="rpi4", **changes):
        profile = default_registry().get(device)
        known = {
            "device": device,
            "profile": profile,
            "find": lambda path: None,
            "cores": tmp_path,
            "emulator_counts": True,
        }
        return Explainer(**{**known, **changes})

    return made


FIGURES = {"oom_kills": 1, "limit_mib": 200, "peak_mib": 199}


@pytest.mark.parametrize(
    ("status", "memory", "error", "name"),
    [
        ({"code": 128}, None, "ProcessDied", "exit status 128"),
        ({"code": 129}, None, "ProcessDied", "SIGHUP"),
        ({"code": 130}, None, "ProcessDied", "SIGINT"),
        ({"code": 132}, None, "IllegalInstruction", "SIGILL"),
        ({"code": 134}, None, "ProcessDied", "SIGABRT"),
        ({"code": 135}, None, "BusError", "SIGBUS"),
        ({"code": 137}, None, "ProcessDied", "SIGKILL"),
        ({"code": 139}, None, "Segfault", "SIGSEGV"),
        ({"code": 143}, None, "ProcessDied", "SIGTERM"),
        ({"code": 159}, None, "ProcessDied", "SIGSYS"),
        ({"code": 160}, None, "ProcessDied", "exit status 160"),
        ({"code": 255}, None, "ProcessDied", "exit status 255"),
        ({"signal": 64, "code": None}, None, "ProcessDied", "SIGRTMAX"),
        ({"signal": 50}, None, "ProcessDied", "signal 50"),
        ({"signal": 11, "code": 139}, None, "Segfault", "SIGSEGV"),
        ({"signal": 9}, FIGURES, "OutOfMemory", "limit 200 MiB, peak 199 MiB (SIGKILL)"),
        ({"code": 137}, FIGURES, "OutOfMemory", "limit 200 MiB, peak 199 MiB (SIGKILL)"),
        ({"code": 1}, FIGURES, "OutOfMemory", "limit 200 MiB, peak 199 MiB (SIGKILL)"),
        ({"signal": 9}, {}, "OutOfMemory", "no limit known (SIGKILL)"),
        ({"signal": 9}, {"limit_mib": 64}, "OutOfMemory", "limit 64 MiB (SIGKILL)"),
        ({"signal": 9}, {"peak_mib": 0}, "OutOfMemory", ": peak 0 MiB (SIGKILL)"),
        # Another process may have been killed for memory meanwhile: this one's end is its own.
        ({"signal": 11}, FIGURES, "Segfault", "SIGSEGV"),
        ({"signal": 15}, FIGURES, "ProcessDied", "SIGTERM"),
    ],
)
def test_exit_statuses_and_memory_events_tell_the_class(explainer, status, memory, error, name):
    found, _ = explainer().process_end(status, "running ['x']", log="", memory=memory)
    assert type(found).__name__ == error
    assert name in found.message
    assert "while running ['x']" in found.message
    assert found.details["device"] == "rpi4"
    assert found.details["doing"] == "running ['x']"


def test_only_the_last_words_of_a_long_log_count(explainer):
    """The device's log is that of all its programs; an earlier one's end explains nothing."""
    earlier = "terminate called after throwing an instance of 'std::bad_alloc'\n"
    later = "".join(f"worker: frame {n}\n" for n in range(20))
    error, _ = explainer().process_end({"signal": 6}, "running", log=earlier + later, memory=None)
    assert type(error).__name__ == "ProcessDied"
    assert "bad_alloc" not in error.message
    assert "worker: frame 12\n" in error.message
    assert "worker: frame 11\n" not in error.message
    error, _ = explainer().process_end({"signal": 6}, "running", log=later + earlier, memory=None)
    assert type(error).__name__ == "OutOfMemory"


def test_a_word_about_memory_is_no_lack_of_it_where_another_signal_struck(explainer):
    error, _ = explainer().process_end(
        {"signal": 11}, "running", log="caught std::bad_alloc, going on", memory=None
    )
    assert type(error).__name__ == "Segfault"


def test_last_words_are_shown_but_for_an_illegal_instruction(explainer):
    for number, shown in ((4, False), (11, True), (6, True)):
        error, _ = explainer().process_end({"signal": number}, "x", log="so it ends", memory=None)
        assert ("so it ends" in error.message) is shown
    error, _ = explainer().process_end({"signal": 11}, "x", log="", memory=None)
    assert "last words" not in error.message
    error, _ = explainer().process_end({"code": 2}, "x", log="", memory=None)
    assert "last words" not in error.message


def test_at_most_twelve_lines_of_an_exit_are_shown(explainer):
    log = "\n".join(f"line {n}" for n in range(30))
    error, _ = explainer().process_end({"code": 2}, "x", log=log, memory=None)
    assert "line 18\n" in error.message
    assert "line 17\n" not in error.message


def test_pages_are_the_boards_only_where_its_own_kernel_runs(explainer):
    said = "OSError: [Errno 22] Invalid argument"
    for counts, expected in ((True, False), (False, True)):
        error, _ = explainer("rpi5", emulator_counts=counts).process_end(
            {"code": 1}, "x", log=said, memory=None
        )
        assert ("pages of 16 KiB" in error.message) is expected
        assert error.next_step.startswith("make the program ask" if expected else ABOVE)


def test_a_crash_on_large_pages_names_them_too(explainer):
    error, diagnosis = explainer("rpi5", emulator_counts=False).process_end(
        {"signal": 6}, "x", log="<jemalloc>: Unsupported system page size", memory=None
    )
    assert type(error).__name__ == "ProcessDied"
    assert "pages of 16 KiB" in error.message
    assert "jemalloc was built for smaller pages" in error.message
    assert error.next_step.startswith("make the program ask for the page size")
    assert diagnosis.kind == "abort"


def core_of(name):
    return base64.b64decode(RECORDED[name]["core"])


def test_the_core_dump_that_the_status_names_is_read_before_a_newer_one(explainer, tmp_path):
    import os

    (tmp_path / "mine.core").write_bytes(core_of("atomics"))
    (tmp_path / "other.core").write_bytes(core_of("half-precision"))
    os.utime(tmp_path / "mine.core", (1, 1))
    error, diagnosis = explainer().process_end(
        {"signal": 4, "core": "mine.core"}, "x", log="", memory=None
    )
    assert diagnosis.feature == error.details["feature"] == "FEAT_LSE"
    assert list(tmp_path.iterdir()) == []


def test_without_a_name_the_newest_core_dump_is_read(explainer, tmp_path):
    import os

    (tmp_path / "core").write_bytes(core_of("atomics"))
    (tmp_path / "old.core").write_bytes(core_of("half-precision"))
    os.utime(tmp_path / "old.core", (1, 1))
    _, diagnosis = explainer().process_end({"signal": 4}, "x", log="", memory=None)
    assert diagnosis.feature == "FEAT_LSE"


def test_a_device_that_went_down_for_memory_says_so(explainer):
    error = explainer().device_end("running", "", log="", memory=FIGURES)
    assert type(error).__name__ == "OutOfMemory"
    assert "(its agent hung up)" in error.message
    error = explainer().device_end("running", "the OOM killer ended it", log="", memory=FIGURES)
    assert "(the OOM killer ended it)" in error.message


def test_a_device_that_went_down_shows_its_log(explainer):
    error = explainer().device_end("running", "", log="", memory=None)
    assert error.message == ("rpi4 went down while running: its agent hung up\n(its log is empty)")
    error = explainer().device_end("running", "QEMU ended", log="a\nb", memory=None)
    assert error.message == (
        "rpi4 went down while running: QEMU ended\n--- log of rpi4 ---\na\nb\n---"
    )


NATIVE = {"emulated": False, "board_cpu": False, "memory_limit": False}


def test_what_runs_natively_is_not_explained_by_an_emulator(explainer):
    native = explainer(**NATIVE)
    slow = native.timed_out("the worker", "running", 2.0, said="", details={})
    assert slow.next_step == "raise timeout_s, or look for an endless loop"
    crashed, _ = native.process_end({"signal": 11}, "x", log="", memory=None)
    assert "engine that has the board's CPU (ability isa)" in crashed.next_step
    assert "device profile" not in crashed.next_step
    lacking, _ = native.process_end({"code": 1}, "x", log="MemoryError", memory=None)
    assert lacking.message == ("rpi4 ran out of memory while x: no limit known (MemoryError)")
    assert "--edge-memory-mib" not in lacking.next_step
    assert "no memory limit that could be raised" in lacking.next_step


def test_an_engine_that_counts_no_kills_does_not_rule_one_out(explainer):
    killed, _ = explainer(memory_limit=False).process_end({"signal": 9}, "x", log="", memory=None)
    assert "or by the kernel for want of memory: this engine cannot tell" in killed.message
    assert "no memory limit was hit" not in killed.message
    assert "dmesg" in killed.next_step


def test_an_emulator_without_a_limit_is_not_counted_against_one(explainer):
    error = explainer(memory_limit=False).out_of_memory("x", {}, why="MemoryError")
    assert error.message.endswith("(MemoryError); the emulator's own memory counts too")


def test_a_program_that_gives_up_was_not_killed_by_the_boards_kernel(explainer):
    error, _ = explainer(emulator_counts=False).process_end(
        {"code": 1}, "x", log="MemoryError", memory=None
    )
    assert error.message.endswith("no limit known (MemoryError)")


def test_a_time_out_that_said_nothing_says_so(explainer):
    error = explainer().timed_out("the worker", "running", 2.5, said="\n", details={"stdout": ""})
    assert error.message.endswith("after 2.5 s and was ended; it said nothing")
    assert error.details == {"device": "rpi4", "timeout_s": 2.5, "stdout": ""}


@pytest.mark.parametrize(
    ("said", "sign"),
    [
        ("MemoryError", "MemoryError"),
        ("MemoryError: cannot allocate", "MemoryError"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable", "NumPy's MemoryError"),
        ("numpy.core._exceptions.ArrayMemoryError: Unable", "NumPy's MemoryError"),
        ("OSError: [Errno 12] Cannot allocate memory", "ENOMEM"),
        ("  what():  std::bad_alloc\nAborted (core dumped)", "std::bad_alloc"),
        ("MemoryError\n\n", "MemoryError"),
        ("MemoryError" + "\nx" * 5, "MemoryError"),
        ("MemoryError" + "\nx" * 6, ""),
        ("except MemoryError:", ""),
        ("MyMemoryErrors", ""),
        ("OSError: [Errno 122] Disk quota", ""),
        ("notstd::bad_allocator", ""),
        ("", ""),
    ],
)
def test_programs_say_that_memory_ran_out(said, sign):
    assert memory_sign(said) == sign


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("a.so: ELF load command address/offset not properly aligned", "linked for smaller pages"),
        ("a.so: ELF load command alignment not page-aligned", "linked for smaller pages"),
        ("<jemalloc>: Unsupported system page size", "jemalloc was built for smaller pages"),
        ("mmap failed: Invalid argument", "a memory mapping begins inside a page"),
        ("mprotect: EINVAL", "a memory mapping begins inside a page"),
        ("OSError: [Errno 22] Invalid argument", "no multiple of the page size"),
        ("ValueError: mmap offset must be a multiple of ALLOCATIONGRANULARITY", "no multiple"),
        ("error: page size 16384, expected 4096", "the program checks for a page size"),
    ],
)
def test_what_programs_say_on_pages_that_are_too_large(said, meaning):
    hint = page_size_hint(f"before\n{said}\nafter", 16)
    assert hint.startswith("this device has pages of 16 KiB, and programs made for 4 KiB pages")
    assert meaning in hint
    assert page_size_hint(said, 4) == ""
    assert "64 KiB" in page_size_hint(said, 64)


def test_other_words_are_not_taken_for_the_page_size():
    for said in ("", "Invalid argument", "mmap worked\nthen: Invalid choice", "home page size"):
        assert page_size_hint(said, 16) == ""


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("ValueError: Model provided has model identifier 'TFL2'", "ModelError"),
        ("ValueError: The model is not a valid Flatbuffer buffer", "ModelError"),
        ("ValueError: Model provided is schema version 4", "ModelError"),
        ("ValueError: No subgraph in the model", "ModelError"),
        ("InvalidProtobuf: INVALID_PROTOBUF", "ModelError"),
        ("Op builtin_code out of range: 300. Are you using old TFLite binary", "UnsupportedModel"),
        ("Encountered unresolved custom op: Detect", "UnsupportedModel"),
        ("NotImplemented: [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : x", "UnsupportedModel"),
        ("Could not find an implementation for ConvInteger(10)", "UnsupportedModel"),
        ("TypeError: tensor 'x' is a sequence, which has no numpy equivalent", "UnsupportedModel"),
        ("tensor 'x' holds strings, which numpy arrays of fixed size", "UnsupportedModel"),
        ("RuntimeError: could not create a primitive", "RuntimeFailed"),
    ],
)
def test_what_runtimes_say_of_models_tells_the_class(said, error):
    load = FailedLoad(
        device="rpi4", model="a.tflite", model_bytes=7, runtime="R 1", requirement="r==1"
    )
    found = load.error(said)
    assert type(found).__name__ == error
    assert said in found.message
    assert "'a.tflite'" in found.message
    assert found.next_step
    assert found.details == {"runtime": "r==1", "device": "rpi4"}
