"""From what is asked to an estimate, with recorded counts in the place of an emulated board."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import edge_harness.clock.counting.count as counting
import edge_harness.clock.counting.predict as predicting
import msgspec
import numpy as np
import pytest
from edge_harness.clock.calibrate import measurements
from edge_harness.clock.calibrate.run import run_calibration
from edge_harness.clock.counting import icount
from edge_harness.clock.counting.count import count, count_key
from edge_harness.clock.counting.device_clock import DeviceClock
from edge_harness.clock.counting.icount import Number
from edge_harness.clock.counting.inference import file_inputs, made_up_inputs, of_file, of_loaded
from edge_harness.clock.counting.predict import estimate_key, predict
from edge_harness.clock.operators import Operator
from edge_harness.errors import (
    InputError,
    MissingAbility,
    MissingTool,
    OptionError,
    UserError,
)
from edge_harness.models.file import read_model
from edge_harness.profiles import default_registry
from edge_harness.profiles.shape import Cluster
from edge_harness.runtimes import RUNTIMES, load_request

from tests import clock_regression

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
RPI4 = default_registry().get("rpi4")
assert RPI4.clock is not None
CALIBRATION = RPI4.clock
DIGITS = next(i for i in clock_regression.traces() if i["name"] == "digits_int8_builtin")


def asked(path=MODELS / "digits_int8.tflite", profile=RPI4, samples=None, say=None, **options):
    model = read_model(path)
    threads = options.pop("threads", 1)
    request = load_request(model, profile, threads=threads, options=options)
    return of_file(model, request, samples, progress=say)


# -- what is asked ---------------------------------------------------------------------------------


def test_inputs_are_the_same_every_time_and_fit_the_model():
    first, again = (made_up_inputs(file_inputs(read_model(MODELS / "multi_io.tflite"))),) * 2
    assert [a.shape for a in first] == [(1, 4), (1, 4)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert round(float(first[0][0, 0]), 6) == -0.620718  # on every machine, for ever


def test_given_inputs_must_fit_and_hold_no_objects(tmp_path):
    path = MODELS / "digits_int8.tflite"
    (good,) = asked().inputs
    np.savez(tmp_path / "good.npz", x=good)
    assert (asked(samples=tmp_path / "good.npz").inputs[0] == good).all()
    np.savez(tmp_path / "two.npz", x=good, y=good)
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:-30])
    for name in ("two", "objects", "text", "missing", "cut"):
        with pytest.raises(InputError, match=f"{name}.npz"):
            asked(path, samples=tmp_path / f"{name}.npz")
    np.savez(tmp_path / "type.npz", x=good.astype(np.float32))
    with pytest.raises(InputError, match=r"type\.npz' has samples of float32 for the input"):
        asked(path, samples=tmp_path / "type.npz")


def test_given_inputs_go_by_the_models_names_or_in_its_order(tmp_path):
    path = MODELS / "multi_io.tflite"
    names = [tensor.name for tensor in file_inputs(read_model(path))]
    first, second = (np.full((1, 4), value, np.float32) for value in (1, 2))
    np.savez(tmp_path / "named.npz", **{names[1]: second, names[0]: first})
    np.savez(tmp_path / "in_order.npz", second, first)
    assert [a[0, 0] for a in asked(path, samples=tmp_path / "named.npz").inputs] == [1, 2]
    assert [a[0, 0] for a in asked(path, samples=tmp_path / "in_order.npz").inputs] == [2, 1]


def test_of_many_samples_the_first_is_taken_and_no_batch_is_made_of_them(tmp_path):
    one = asked().inputs[0]
    many = np.concatenate([one, one + 1, one])
    np.savez(tmp_path / "many.npz", inputs=many, outputs=np.zeros((3, 10)), labels=[1, 2, 3])
    np.save(tmp_path / "many.npy", many)
    for name in ("many.npz", "many.npy"):
        told: list[str] = []
        found = asked(samples=tmp_path / name, say=told.append)
        assert found.inputs[0].shape == one.shape
        assert (found.inputs[0] == one).all()
        assert told == [f"{str(tmp_path / name)!r} has 3 samples: the first is taken"]


def test_an_input_of_strings_cannot_be_made_up():
    with pytest.raises(InputError, match=r"strings\.tflite.*cannot be made up"):
        asked(MODELS / "strings.tflite")


def test_elements_of_floating_point_inputs_are_counted():
    assert asked(MODELS / "multi_io.tflite").float_inputs == 8
    assert asked().float_inputs == 0


class Loaded:
    """A session of the model, as a latency source sees it."""

    def __init__(self, **changes):
        inference = asked(threads=2, kernels="builtin")
        self.profile = RPI4
        self.request = replace(inference.request, requirement="tflite-runtime>=2", **changes)
        self.requirement = "tflite-runtime==2.14.0"
        self.inputs = tuple(file_inputs(read_model(MODELS / "digits_int8.tflite")))


def test_what_is_loaded_is_asked_about_in_its_very_version():
    found = of_loaded(Loaded(shapes=(("x", (1, 8, 8, 1)),)))
    assert found.request.requirement == "tflite-runtime==2.14.0"
    assert (found.request.threads, found.request.shapes) == (2, ())
    assert dict(found.request.options) == {"kernels": "builtin"}
    assert (found.inputs[0] == asked().inputs[0]).all()
    given = np.zeros((1, 8, 8, 1), np.int8)
    assert (of_loaded(Loaded(), given, threads=4).inputs[0] == given).all()
    assert of_loaded(Loaded(), given, threads=4).request.threads == 4
    with pytest.raises(InputError):
        of_loaded(Loaded(), np.zeros((1, 8, 8, 1), np.float32))


def test_delegates_and_providers_of_ones_own_are_refused():
    delegated = asked(delegates={"libedgetpu.so.1": {}})
    with pytest.raises(MissingAbility, match=r"delegates= libedgetpu\.so\.1 may run the model"):
        delegated.refuse_other_processors()
    with pytest.raises(MissingAbility, match="GPU, NPU, DSP"):
        predict(RPI4, delegated)
    provided = asked(MODELS / "digits_qdq.onnx", providers=["XnnpackExecutionProvider"])
    with pytest.raises(MissingAbility, match="providers= XnnpackExecutionProvider"):
        provided.refuse_other_processors()
    asked(MODELS / "digits_qdq.onnx", providers=["CPUExecutionProvider"]).refuse_other_processors()


@pytest.mark.parametrize(
    "kind", ["edgetpu-custom-op", "edgetpu_v2", "vx-delegate", "vx-other", "NeutronGraph"]
)
def test_models_compiled_for_an_accelerator_are_refused(kind):
    inference = asked()
    operator = Operator(name="x", kind=kind, macs=0, activation_bytes=0, integer=True)
    vars(inference)["operators"] = [operator]  # what is computed once lies there
    with pytest.raises(MissingAbility, match=rf"digits_int8.*{kind!r}.*accelerator") as caught:
        inference.refuse_other_processors()
    assert caught.value.details == {"operator": kind}


# -- what a count and an estimate are known by -----------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        lambda: asked(MODELS / "digits_pruned_int8.tflite"),
        lambda: asked(kernels="builtin"),
        lambda: replace(asked(), inputs=(asked().inputs[0] + 1,)),
        lambda: replace(asked(), request=replace(asked().request, requirement="tflite-runtime==2")),
        lambda: replace(asked(), request=replace(asked().request, runtime=RUNTIMES["litert"])),
        lambda: replace(
            asked(),
            request=replace(
                asked().request,
                runtime=replace(asked().request.runtime, agent_source=b"another file"),
            ),
        ),
    ],
    ids=["model", "kernels", "inputs", "version", "runtime", "agent's file"],
)
def test_another_inference_is_another_count(changed):
    assert count_key(RPI4, changed()) != count_key(RPI4, asked())


def test_what_decides_no_instruction_is_the_same_count(tmp_path):
    shutil.copy(MODELS / "digits_int8.tflite", tmp_path / "copy.tflite")
    known = count_key(RPI4, asked())
    assert count_key(RPI4, asked(tmp_path / "copy.tflite")) == known
    assert count_key(RPI4, asked(threads=4)) == known
    assert count_key(RPI4, asked(kernels="xnnpack")) == known  # what it is by default


def with_cpu(**changes):
    return msgspec.structs.replace(RPI4, cpu=msgspec.structs.replace(RPI4.cpu, **changes))


@pytest.mark.parametrize(
    "board",
    [
        with_cpu(l1d_kib=64),
        with_cpu(l2_kib=512),
        with_cpu(l3_kib=2048),
        with_cpu(core="Cortex-A76"),
        with_cpu(cores=2),
        msgspec.structs.replace(RPI4, os=msgspec.structs.replace(RPI4.os, page_size_kib=16)),
        msgspec.structs.replace(RPI4, os=msgspec.structs.replace(RPI4.os, suite="trixie")),
        msgspec.structs.replace(
            RPI4, emulation=msgspec.structs.replace(RPI4.emulation, qemu_cpu="cortex-a76")
        ),
    ],
    ids=["l1", "l2", "l3", "core", "cores", "pages", "suite", "emulated core"],
)
def test_another_board_is_another_count(board):
    assert count_key(board, asked()) != count_key(RPI4, asked())


@pytest.mark.parametrize(
    "board",
    [
        msgspec.structs.replace(RPI4, name="mine"),
        with_cpu(mhz=1800),
        with_cpu(features=(*RPI4.cpu.features, "asimddp")),
        with_cpu(clusters=(Cluster(core="Cortex-A53", count=4, mhz=1400),)),
        msgspec.structs.replace(RPI4, clock=None),
        msgspec.structs.replace(RPI4, clock=msgspec.structs.replace(CALIBRATION, error=0.5)),
        msgspec.structs.replace(RPI4, clock=msgspec.structs.replace(CALIBRATION, shortest_ms=9.0)),
        msgspec.structs.replace(RPI4, clock=msgspec.structs.replace(CALIBRATION, compute=1.0)),
        msgspec.structs.replace(
            RPI4, memory=msgspec.structs.replace(RPI4.memory, bandwidth_gb_s=1.0)
        ),
    ],
    ids=[
        *("name", "clock rate", "features", "clusters", "no calibration", "error", "shortest"),
        *("parameters", "bandwidth"),
    ],
)
def test_all_that_an_estimate_rests_on_names_it(board):
    inference = asked()
    assert count_key(board, inference) == count_key(RPI4, inference)
    assert estimate_key(board, inference) != estimate_key(RPI4, inference)


def test_threads_and_the_runtimes_row_name_an_estimate():
    inference = asked()
    other = replace(inference.request, runtime=replace(inference.request.runtime, dot_product=True))
    assert estimate_key(RPI4, asked(threads=2)) != estimate_key(RPI4, inference)
    assert estimate_key(RPI4, replace(inference, request=other)) != estimate_key(RPI4, inference)


def test_a_changed_formula_names_all_estimates_anew(monkeypatch):
    known = estimate_key(RPI4, asked())
    monkeypatch.setattr(predicting, "formulas", lambda: "others")
    assert estimate_key(RPI4, asked()) != known


# -- counting, and what comes of it ----------------------------------------------------------------


class Board:
    """Answers with recorded counts, as a board whose QEMU has the plugin loaded."""

    def __init__(self, folder):
        self.state_dir = folder
        self.opened = []
        self.runs = 0
        self.cuts = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def open_session(self, request, **_):
        self.opened.append(request)
        return BoardSession(self)


class BoardSession:
    runtime = DIGITS["runtime"]
    delegates: tuple[str, ...] = ()

    @property
    def facts(self):
        return {"delegates": self.delegates, "kernels": DIGITS["kernels"]}

    def __init__(self, board):
        self.board = board

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def between_markers(self, inputs, repeats):
        out = self.board.state_dir / "clock"
        cut = out / "cut"
        self.board.cuts.append(cut.read_text() if cut.exists() else "")
        (out / "reset").unlink(missing_ok=True)
        for _ in range(repeats):
            name = "cold" if self.board.runs == 0 else "steady"
            data = (clock_regression.DATA / f"{DIGITS['name']}.{name}.gz").read_bytes()
            # More than nine, so that their order is that of numbers.
            (out / f"run-{self.board.runs + 9}").write_bytes(gzip.decompress(data))
            self.board.runs += 1
        return {"maps": DIGITS["maps"]}


@pytest.fixture
def boards(tmp_path, monkeypatch):
    """Boards that were brought up, in the place of emulated ones."""
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    found = []

    def bring_up(profile, inference, progress):
        folder = tmp_path / f"board-{len(found)}"
        folder.mkdir()
        found.append(Board(folder))
        return found[-1]

    monkeypatch.setattr(counting, "counting_board", bring_up)
    return found


def test_what_was_read_is_counted_whatever_the_file_holds_by_then(boards, tmp_path):
    path = tmp_path / "mine.tflite"
    shutil.copy(MODELS / "digits_int8.tflite", path)
    inference = asked(path, kernels="builtin", threads=4)
    shutil.copy(MODELS / "keyword_int8.tflite", path)
    count(RPI4, inference)
    (opened,) = boards[0].opened
    assert opened.content == (MODELS / "digits_int8.tflite").read_bytes()
    assert opened.threads == 1
    assert dict(opened.options) == {"kernels": "builtin"}


def test_an_inference_is_counted_once_and_anew_where_that_is_asked_for(boards):
    told = []
    inference = asked(kernels="builtin")
    first = count(RPI4, inference, progress=told.append)
    assert count(RPI4, inference, progress=told.append) == first
    assert len(boards) == 1
    assert told == ["counting digits_int8.tflite on rpi4"]
    assert count(RPI4, inference, refresh=True) == first
    assert len(boards) == 2
    # The first run, cold, tells where to cut the second.
    assert boards[0].cuts[0] == ""
    assert int(boards[0].cuts[1], 16) > 0
    assert (first.runtime, first.kernels) == (DIGITS["runtime"], "builtin")
    assert first.cold.instructions != first.steady.instructions


def test_a_delegate_is_warmed_up_before_its_steps_are_looked_for(boards, monkeypatch):
    monkeypatch.setattr(BoardSession, "delegates", ("XNNPACK",))
    assert count(RPI4, asked()).delegated
    assert boards[0].runs == 3


def test_an_estimate_is_the_recorded_one_and_is_kept(boards):
    inference = asked(kernels="builtin")
    first = predict(RPI4, inference)
    recorded = DIGITS["estimates"][0]
    assert first.latency_ms == recorded["latency_ms"]
    assert (first.low_ms, first.high_ms) == (recorded["low_ms"], recorded["high_ms"])
    assert not first.cached
    again = predict(RPI4, inference)
    assert again == replace(first, cached=True)
    four = predict(RPI4, asked(kernels="builtin", threads=4))
    assert four.latency_ms == DIGITS["estimates"][1]["latency_ms"]
    assert len(boards) == 1  # the same count
    assert predict(RPI4, inference, refresh=True) == first
    assert len(boards) == 2


def test_a_damaged_estimate_is_made_anew(boards, tmp_path):
    inference = asked(kernels="builtin")
    first = predict(RPI4, inference)
    (kept,) = (tmp_path / "cache" / "clock-estimates").iterdir()
    kept.write_text(kept.read_text()[:-20])
    assert predict(RPI4, inference) == first
    kept.write_text("{}")
    assert predict(RPI4, inference) == first


def test_more_threads_than_the_chip_has_cores_are_refused():
    inference = asked()
    five = replace(inference, request=replace(inference.request, threads=5))
    with pytest.raises(OptionError, match="threads=5, but rpi4 has 4"):
        predict(RPI4, five)


def test_without_a_plugin_instructions_alone_give_a_rougher_answer(boards, monkeypatch):
    def refuse(*_, **__):
        raise MissingTool("there is no compiler", next_step="install one")

    told = []
    monkeypatch.setattr(counting, "counting_board", refuse)
    monkeypatch.setattr(
        predicting,
        "count_instructions",
        lambda profile, inference, progress: Number(240_000, "tflite-runtime 2.14.0", "builtin"),
    )
    inference = asked(kernels="builtin", threads=2)
    rough = predict(RPI4, inference, progress=told.append)
    assert told == ["counting instructions alone: there is no compiler"]
    assert rough.instructions == 240_000
    assert rough.cycles == round(240_000 * 0.9421)
    assert rough.latency_ms == pytest.approx(240_000 * 0.9421 / 1.5e6 / 1.48)
    assert rough.high_ms / rough.latency_ms == pytest.approx(1.879)
    assert rough.latency_ms / rough.low_ms == pytest.approx(1.879)
    assert (rough.threads, rough.compute_ms) == (2, rough.latency_ms)
    assert (rough.memory_ms, rough.overhead_ms, rough.operators) == (0, 0, ())
    assert rough.invoke_ms == rough.first_ms == rough.latency_ms
    assert (rough.runtime, rough.kernels) == ("tflite-runtime 2.14.0", "builtin")
    assert rough.notes[0].startswith("what it waits for is not known")
    assert rough.source.endswith("on 11 boards; there is no compiler")
    assert "±88%, from the number of instructions alone" in rough.source
    assert not predict(RPI4, inference).cached


def test_instructions_alone_are_the_least_disturbed_inferences(boards, monkeypatch, tmp_path):
    started = []

    class Counting(Board):
        def open_session(self, request, **_):
            self.opened.append(request)
            session = BoardSession(self)
            vars(session)["bare_loop_s"] = lambda inputs, repeats: [3e-4] * (repeats - 1) + [2e-4]
            session.kernels = "builtin (no delegate)"
            return session

    def start(request):
        started.append(request)
        return Counting(tmp_path)

    monkeypatch.setattr(icount, "start_device", start)
    monkeypatch.setattr(icount, "counting_engine", lambda profile: ("a choice", None))
    inference = asked(kernels="builtin", threads=4)
    number = icount.count_instructions(RPI4, inference)
    assert number == (200_000, DIGITS["runtime"], "builtin (no delegate)")
    (request,) = started
    assert request.instrumentation.icount
    assert request.choice == "a choice"
    assert request.warm == (RUNTIMES["tflite"], "tflite-runtime==2.14.0")


def test_a_session_is_answered_by_the_clock(boards):
    clock = DeviceClock()
    answer = clock.latency(Loaded())
    assert (answer.device, answer.threads, answer.cached) == ("rpi4", 2, False)
    assert clock.latency(Loaded(), threads=1).threads == 1
    assert clock.latency(Loaded()).cached
    assert not clock.latency(Loaded(), refresh=True).cached
    assert not DeviceClock(refresh=True).latency(Loaded()).cached
    assert DeviceClock(refresh=True).latency(Loaded(), refresh=False).cached


# -- calibration on such counts --------------------------------------------------------------------


def test_measured_rows_have_the_steps_of_their_inference(boards, tmp_path):
    shutil.copy(MODELS / "digits_int8.tflite", tmp_path)
    path = tmp_path / "mine.csv"
    path.write_text(
        "model,device,threads,latency_ms,kernels,precision,whole,source\n"
        "digits_int8.tflite,rpi4,1,0.5,builtin,int8,,my desk\n"
        "digits_int8.tflite,rpi4,4,0.4,builtin,fp32,no,\n"
        "digits_int8.tflite,rpi4,2,0.4,xnnpack,,yes,\n"
    )
    wanted, left = measurements.read_csv(path, default_registry())
    rows, failed = measurements.measured_rows(wanted, default_registry())
    assert (left, failed) == ([], [])
    assert len(boards) == 2  # once for each kind of kernels
    first, second, _ = rows
    assert [row.id for row in rows] == ["line 2", "line 3", "line 4"]
    assert first.steps == second.steps
    assert sum(step.instructions for step in first.steps) == DIGITS["estimates"][0]["instructions"]
    assert [row.threads for row in rows] == [1, 4, 2]
    assert [row.whole for row in rows] == [True, False, True]
    assert [row.precision for row in rows] == ["int8", "fp32", "fp32"]
    assert (first.board, first.core, first.family) == ("rpi4", "cortex-a72", "digits_int8")
    assert (first.macs, first.activation_bytes) == (80864, 10942)
    assert (first.mhz, first.dram_peak_gb_s, first.float_inputs) == (1500, 12.8, 0)
    assert [row.source for row in wanted] == ["my desk", "mine.csv", "mine.csv"]


def test_rows_whose_model_cannot_be_counted_say_why(boards, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise MissingAbility("no board here", next_step="")

    monkeypatch.setattr(counting, "counting_board", refuse)
    shutil.copy(MODELS / "digits_int8.tflite", tmp_path)
    path = tmp_path / "mine.csv"
    path.write_text("model,device,threads,latency_ms\ndigits_int8.tflite,rpi4,1,0.5\n" * 1)
    wanted, _ = measurements.read_csv(path, default_registry())
    rows, failed = measurements.measured_rows([*wanted, *wanted], default_registry())
    assert rows == []
    assert [(row.id, row.reason) for row in failed] == [("line 2", "no board here")] * 2


def calibrated(path, **changes):
    arguments = {"device": None, "write_to": None, "write_all": None, "general": False}
    return run_calibration(
        default_registry(), path, progress=lambda _: None, **{**arguments, **changes}
    )


@pytest.fixture
def own_measurements(boards, tmp_path):
    pytest.importorskip("scipy")
    pytest.importorskip("tomlkit")
    for name in ("digits_int8", "keyword_int8"):
        shutil.copy(MODELS / f"{name}.tflite", tmp_path)
    path = tmp_path / "board.csv"
    path.write_text(
        "model,device,threads,latency_ms,kernels,source\n"
        "digits_int8.tflite,rpi4,1,0.65,builtin,lab on Monday\n"
        "keyword_int8.tflite,rpi4,4,0.70,builtin,\n"
        "digits_int8.tflite,rpi3b,1,1.30,builtin,\n"
        "gone.tflite,rpi4,1,0.03,builtin,\n"
    )
    return path


def test_ones_own_measurements_go_into_a_profile(own_measurements, tmp_path):
    target = tmp_path / "mine" / "rpi4.toml"
    report = calibrated(own_measurements, device="rpi4", write_to=target)
    assert list(report.boards) == ["rpi4"]
    assert report.boards["rpi4"].rows == 2
    assert [(row.id, "gone.tflite" in row.reason) for row in report.left] == [("line 5", True)]
    assert report.as_json()["left_out"][0]["id"] == "line 5"
    assert report.general is None
    profile = default_registry(extra_dirs=[target.parent]).get("rpi4")
    assert profile.clock == report.boards["rpi4"].clock
    assert (profile.clock.rows, profile.clock.measured) == (2, "board.csv, lab")
    assert profile.clock.shortest_ms == 0.65


def test_the_fits_of_all_boards_go_into_a_folder(own_measurements, tmp_path):
    folder = tmp_path / "profiles"
    folder.mkdir()
    for name in ("rpi4", "rpi3b"):
        (folder / f"{name}.toml").write_text(f'extends = "{name}"\n')
    report = calibrated(own_measurements, write_all=folder)
    assert list(report.boards) == ["rpi4", "rpi3b"]
    assert [each.what for each in report.overall][-1] == "one board left out"
    registry = default_registry(extra_dirs=[folder])
    for name, board in report.boards.items():
        assert registry.get(name).clock == board.clock


def test_what_a_calibration_cannot_do_is_said_before_it_counts(own_measurements, boards, tmp_path):
    with pytest.raises(OptionError, match="--write needs --device"):
        calibrated(own_measurements, write_to=tmp_path / "x.toml")
    with pytest.raises(OptionError, match="--general is about all boards"):
        calibrated(own_measurements, general=True, device="rpi4")
    with pytest.raises(UserError, match=r"those that can are of rpi3b, rpi4"):
        calibrated(own_measurements, device="rpi5")
    own_measurements.write_text("model,device,threads,latency_ms\ngone.tflite,rpi4,1,1\n")
    with pytest.raises(UserError, match=r"none of the measurements can be used.*gone\.tflite"):
        calibrated(own_measurements)
    assert boards == []
