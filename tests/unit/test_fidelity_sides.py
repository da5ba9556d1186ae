"""Both sides of a comparison: arranged, laid out, opened and run."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness import fidelity, opening
from edge_harness.errors import InputError, ModelError, OptionError
from edge_harness.fidelity import reference
from edge_harness.fidelity.inputs import arranged, converted, laid_out, matched
from edge_harness.fidelity.reference import computes_in_integers, opened, output_steps
from edge_harness.models.file import ModelFile, read_model
from edge_harness.profiles import default_registry
from edge_harness.runtimes import RUNTIMES, Format, LoadRequest, Runtime

from tests.makers import tensor

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
LITE = read_model(MODELS / "digits_int8.tflite")
LITE_FLOAT = read_model(MODELS / "digits_float.tflite")
ONNX = read_model(MODELS / "digits_qdq.onnx")


def side(*inputs, model=LITE):
    return SimpleNamespace(inputs=inputs, outputs=(), model=model)


# -- layouts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lite", "onnx"),
    [((2, 3, 4), (2, 4, 3)), ((2, 3, 4, 5), (2, 5, 3, 4)), ((2, 3, 4, 5, 6), (2, 6, 3, 4, 5))],
)
def test_channels_are_last_in_one_format_and_second_in_the_other(lite, onnx):
    values = np.arange(np.prod(lite)).reshape(lite)
    there = laid_out(values, LITE.format, ONNX.format)
    assert there.shape == onnx
    assert there.flags.c_contiguous
    assert np.array_equal(there, np.moveaxis(values, -1, 1))
    back = laid_out(there, ONNX.format, LITE.format)
    assert np.array_equal(back, values)


def test_few_dimensions_stay_as_they_are():
    flat = np.arange(6).reshape(2, 3)
    assert laid_out(flat, LITE.format, ONNX.format) is flat


def test_a_shape_that_is_asked_for_decides():
    values = np.zeros((2, 3, 4, 5))
    assert laid_out(values, LITE.format, ONNX.format, (2, 5, 3, 4)).shape == (2, 5, 3, 4)
    assert laid_out(values, LITE.format, ONNX.format, (-1, 5, -1, -1)).shape == (2, 5, 3, 4)
    for wrong in ((2, 3, 4, 5), (2, 5, 3), (2, 5, 4, 3), (2, 5, 3, 1)):
        assert laid_out(values, LITE.format, ONNX.format, wrong) is values


# -- samples ---------------------------------------------------------------------------------


INT8 = tensor("x", "int8", (1, 2), scales=(0.5,), zero_points=(1,))


def test_samples_are_taken_in_every_form_and_quantized():
    for given in ([[0.5, 1.0]], {"x": np.float32([[0.5, 1.0]])}, [np.float64([[0.5, 1.0]])]):
        (found,) = arranged(given, side(INT8))
        assert (found.dtype, found.tolist()) == (np.int8, [[2, 3]])
    # Integers are taken as they are.
    assert arranged(np.int8([[4, 5]]), side(INT8))[0].tolist() == [[4, 5]]
    # Whole numbers without a scale are not made from real ones.
    with pytest.raises(InputError, match="takes int8, but the array is float32"):
        arranged(np.float32([[1, 2]]), side(tensor("x", "int8", (1, 2))))
    with pytest.raises(InputError, match="the model has 2 inputs, one array given"):
        arranged(np.float32([[1, 2]]), side(INT8, tensor("y")))


def test_a_references_sample_is_made_by_name_else_by_place():
    ours = side(tensor("a", signature=(1,)), tensor("b", signature=(1,)))
    one, two = np.float32([1]), np.float32([2])
    swapped = side(tensor("b", signature=(1,)), tensor("a", signature=(1,)))
    assert [a.tolist() for a in converted([one, two], ours, swapped)] == [[2.0], [1.0]]
    placed = side(tensor("p", signature=(1,)), tensor("q", signature=(1,)))
    assert [a.tolist() for a in converted([one, two], ours, placed)] == [[1.0], [2.0]]
    said = converted([one, two], ours, placed, {"a": "q", "b": "p"})
    assert [a.tolist() for a in said] == [[2.0], [1.0]]
    with pytest.raises(InputError, match="the reference has 1 inputs, the model 2"):
        converted([one, two], ours, side(tensor("a", signature=(1,))))


def test_numbers_become_those_of_the_reference():
    real = side(tensor("x", "float32", (1, 2)))
    (found,) = converted([np.int8([[2, 3]])], side(INT8), real)
    assert (found.dtype, found.tolist()) == (np.float32, [[0.5, 1.0]])
    coarse = tensor("x", "int8", (1, 2), scales=(0.25,), zero_points=(0,))
    assert converted([np.int8([[2, 3]])], side(INT8), side(coarse))[0].tolist() == [[2, 4]]
    wide = tensor("x", "float64", (1, 2))
    assert converted([np.float32([[2, 3]])], real, side(wide))[0].dtype == np.float64
    (same,) = converted([np.int8([[2, 3]])], side(INT8), side(INT8))
    assert same.tolist() == [[2, 3]]
    tokens = tensor("x", "int64", (1, 2))
    assert converted([np.int32([[2, 3]])], side(tensor("x", "int32", (1, 2))), side(tokens))[
        0
    ].tolist() == [[2, 3]]


def test_a_function_gets_real_values_and_integers_without_a_scale_as_they_are():
    seen = {}

    def change(real):
        seen.update(real)
        return real["x"].astype(np.float32)

    ours = side(INT8, tensor("tokens", "int64", (1,)))
    reals = side(tensor("x", "float32", (1, 2)))
    (found,) = converted([np.int8([[2, 3]]), np.int64([7])], ours, reals, change)
    assert found.tolist() == [[0.5, 1.0]]
    assert (seen["tokens"].dtype, seen["x"].dtype) == (np.int64, np.float64)


def test_names_are_matched_and_refused():
    assert matched(["a", "b"], ["b", "a"], None, "output") == [("a", "a"), ("b", "b")]
    assert matched(["a", "b"], ["c", "d"], None, "output") == [("a", "c"), ("b", "d")]
    assert matched(["a", "b"], ["c", "d"], {"b": "c"}, "output") == [("b", "c")]
    for mapping in ({"z": "c"}, {"a": "z"}):
        with pytest.raises(InputError, match="names no output of both models"):
            matched(["a", "b"], ["c", "d"], mapping, "output")
    with pytest.raises(InputError, match="the model has 2 outputs, the reference 1") as caught:
        matched(["a", "b"], ["c"], None, "output")
    assert "outputs={ours: theirs}" in caught.value.next_step


# -- what is known of a file -----------------------------------------------------------------


def test_files_tell_whether_they_compute_in_integers():
    assert computes_in_integers(LITE)
    assert not computes_in_integers(LITE_FLOAT)
    assert computes_in_integers(ONNX)
    assert not computes_in_integers(read_model(MODELS / "add_float.onnx"))


def test_files_tell_the_steps_of_real_outputs_that_were_integers():
    (step,) = output_steps(read_model(MODELS / "digits_int8_real_ends.tflite")).values()
    assert step == pytest.approx(1 / 256)
    assert output_steps(LITE_FLOAT) == {}
    pytest.importorskip("onnx")
    assert output_steps(read_model(MODELS / "add_float.onnx")) == {}


def test_figures_are_native_where_there_is_no_device():
    assert reference.figure_kind(side()) == "native"
    board = SimpleNamespace(device=SimpleNamespace(figure_kind="measured"))
    assert reference.figure_kind(board) == "measured"


# -- references ------------------------------------------------------------------------------


def test_a_session_is_its_own_reference_and_stays_open():
    other = side()
    with opened(side(), other) as found:
        assert found is other


def test_an_unknown_way_lists_the_ways():
    with (
        pytest.raises(OptionError, match="by='guess' is no way") as caught,
        opened(
            side(),
            None,
            "guess",
        ),
    ):
        pass
    assert caught.value.next_step == "use one of: trusted, native, device"


def test_an_onnx_file_is_evaluated_by_default():
    pytest.importorskip("onnx")
    with opened(side(model=LITE), MODELS / "digits_qdq.onnx") as found:
        assert isinstance(found, fidelity.Evaluator)
    with opened(side(model=ONNX), None) as found:
        assert found.model is ONNX


def test_a_device_is_not_compared_with_itself():
    told = r"would compare 'digits_int8\.tflite' with itself"
    with pytest.raises(OptionError, match=told), opened(side(), None, "device"):
        pass


class Loaded:
    """What a board gave for a file."""

    def __init__(self, board, model, runtime, options, request=None):
        self.device, self.model = board, model
        self.runtime, self.kernels = "tflite-runtime 2.14.0", "builtin (no delegate)"
        self.asked = runtime, options
        self.request = request or LoadRequest(
            content=model.content,
            file_name=str(model.path),
            format=model.format,
            runtime=RUNTIMES["onnx" if model.format is ONNX.format else "tflite"],
            requirement="",
            threads=4,
            options=tuple((options or {}).items()),
            shapes=(("x", (1, 2)),),
        )
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True


class Board:
    name, engine = "rpi4", "user"

    def __init__(self, figure_kind="emulated"):
        self.figure_kind = figure_kind
        self.profile = default_registry().get("rpi4")

    def load(self, model, *, runtime=None, options=None):
        if model.path.name == "broken.tflite":
            raise ModelError("not this one", details={"bytes": 3})
        return Loaded(self, model, runtime, options)

    def open_session(self, request):
        model = ModelFile(path=request.path, content=request.content, format=request.format)
        if model.path.name == "broken.tflite":
            raise ModelError("not this one", details={"bytes": 3})
        assert (request.threads, request.shapes) == (1, ())
        return Loaded(self, model, request.requirement, dict(request.options), request)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def on_board(model=LITE):
    session = Loaded(Board(), model, None, None)
    session.requirement = "tflite-runtime==2.14.0"
    return session


@pytest.fixture
def this_machine(monkeypatch):
    opened_as = []

    def open_device(profile, *, engine):
        opened_as.append((profile.name, engine))
        return Board("native")

    monkeypatch.setattr(opening, "open_device", open_device)
    return opened_as


def test_on_the_device_a_reference_runs_with_the_sessions_runtime():
    session = on_board()
    with opened(session, MODELS / "digits_float.tflite", "device") as found:
        assert found.device is session.device
        assert found.asked == ("tflite-runtime==2.14.0", {})
        # The runtime itself, as its distribution may carry others.
        assert found.request.runtime is session.request.runtime
        assert not found.closed
    assert found.closed
    # A file of another format has no runtime in common with it.
    with opened(session, MODELS / "digits_qdq.onnx", "device") as found:
        assert found.asked == (None, None)


def test_trusted_is_by_reference_kernels_of_the_same_version_on_this_machine(this_machine):
    with opened(on_board(), None) as found:
        assert found.asked == ("tflite-runtime==2.14.0", {"kernels": "reference"})
        assert found.model == LITE  # what was read, not what lies there by now
        assert reference.doubt_about(found) == ""
    assert found.closed
    assert [name for name, _ in this_machine] == ["rpi4"]


def test_native_is_by_optimised_kernels_and_doubted_on_x86(this_machine, monkeypatch):
    monkeypatch.setattr(reference.platform, "machine", lambda: "x86_64")
    with opened(on_board(), MODELS / "digits_int8.tflite", "native") as found:
        assert found.asked == ("tflite-runtime==2.14.0", {})
        with pytest.warns(fidelity.ReferenceWarning, match="47 of 65 layers"):
            (doubt,) = reference.warn_about(found)
    assert doubt.startswith("digits_int8.tflite on rpi4 (user), tflite-runtime 2.14.0, kernels")
    for machine in ("AMD64", "i686"):
        monkeypatch.setattr(reference.platform, "machine", lambda m=machine: m)
        assert reference.doubt_about(found) == doubt
    monkeypatch.setattr(reference.platform, "machine", lambda: "aarch64")
    assert reference.warn_about(found) == []


def test_only_integers_natively_run_are_doubted(monkeypatch):
    monkeypatch.setattr(reference.platform, "machine", lambda: "x86_64")
    native = Board("native")
    assert reference.doubt_about(Loaded(native, LITE_FLOAT, None, None)) == ""
    assert "saturate in 16 bits" in reference.doubt_about(Loaded(native, ONNX, None, None))
    assert reference.doubt_about(Loaded(Board(), LITE, None, None)) == ""
    assert reference.doubt_about(side()) == ""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_runtime_that_is_its_own_reference_is_warned_about(this_machine, monkeypatch, machine):
    monkeypatch.setattr(reference.platform, "machine", lambda: machine)
    npy = Format(name="npy", title="NumPy matrix", suffixes=(".npy",))
    row = Runtime(name="npy", distribution="numpy", imports="numpy", formats=(npy,))
    session = on_board(replace(LITE, path=Path("m.npy"), format=npy))
    session.request = replace(session.request, runtime=row)
    with opened(session, None) as found:
        told = "runtime itself on this machine's own processor: no trusted execution of NumPy matri"
        with pytest.warns(fidelity.ReferenceWarning, match=told):
            (doubt,) = reference.warn_about(found)
    assert "'npy'" in doubt
    assert reference.doubt_about(session) == ""  # on the board
    plain = replace(row, reference_options=(("plain", True),))
    found.request = replace(found.request, runtime=plain, options=plain.reference_options)
    assert reference.doubt_about(found) == ""


def test_onnx_natively_run_has_no_reference_kernels(this_machine):
    with reference.reference_session(on_board(), MODELS / "digits_qdq.onnx") as found:
        assert found.asked == (None, {})
    with reference.reference_session(on_board(), trusted=False) as found:
        assert (found.model, found.asked) == (LITE, ("tflite-runtime==2.14.0", {}))


def test_a_reference_that_does_not_load_is_named(this_machine):
    broken = replace(LITE, path=Path("broken.tflite"))
    with pytest.raises(ModelError) as caught, reference.reference_session(on_board(), broken):
        pass
    assert caught.value.details == {"reference": "broken.tflite", "bytes": 3}


# -- comparing -------------------------------------------------------------------------------


@pytest.fixture
def scores(tmp_path):
    pytest.importorskip("onnx")
    from fixtures import small_onnx

    for name in ("float", "qdq"):
        content = getattr(small_onnx, f"classifier_{name}")()
        (tmp_path / f"{name}.onnx").write_bytes(content)
    return tmp_path, small_onnx.images(6)


def test_the_same_file_is_a_port_and_another_its_parent(scores):
    from tests.native_sessions import OnnxSession

    folder, images = scores
    session = OnnxSession(folder / "qdq.onnx")
    port = fidelity.compare(session, None, images)
    assert (port.kind, port.verdict.word, port.samples) == ("port", "passed", 6)
    assert port.equal
    assert session.runs == 6
    parent = fidelity.compare(session, folder / "float.onnx", images)
    assert (parent.kind, parent.verdict.word) == ("quantization", "passed")
    assert not parent.equal
    assert parent.sqnr_db > 30
    student = fidelity.compare(session, folder / "float.onnx", images, kind="student")
    assert student.kind == "student"


def test_faithful_or_an_explanation(scores):
    from tests.native_sessions import OnnxSession

    folder, images = scores
    session = OnnxSession(folder / "qdq.onnx")
    assert fidelity.assert_faithful(session, None, images).passed
    with pytest.raises(AssertionError, match="quantization fidelity: failed; 6 samples"):
        fidelity.assert_faithful(session, folder / "float.onnx", images, tolerances={"sqnr_db": 99})
    with pytest.raises(AssertionError, match="vacuous: there were no samples"):
        fidelity.assert_faithful(session, None, [])


def test_what_cannot_be_compared_is_refused(scores):
    from tests.native_sessions import OnnxSession

    folder, images = scores
    session = OnnxSession(folder / "qdq.onnx")
    with pytest.raises(OptionError, match="there is no kind 'twin'"):
        fidelity.compare(session, None, images, kind="twin")
    with pytest.raises(OptionError, match="there is no task 'detection'"):
        fidelity.compare(session, None, images, task="detection")
    with pytest.raises(InputError, match="there are 6 samples and 2 labels"):
        fidelity.compare(session, None, images, labels=[1, 2])
    assert session.runs == 0
    labels = [int(np.argmax(session.run(image)["scores"])) for image in images]
    assert fidelity.compare(session, None, images, labels=labels).accuracy == 1.0


# -- assertions on outputs -------------------------------------------------------------------


class Fixed:
    """A session that gives one answer after another, in a fresh worker from the start."""

    device = SimpleNamespace(name="rpi4", engine="user")
    runtime, kernels = "numpy", "python"

    def __init__(self, *answers, fresh=None):
        self.answers = list(answers)
        self.fresh = fresh
        self.outputs = (tensor("y", "int8", (2,), scales=(0.5,), zero_points=(0,)),)
        self.ran = 0

    def run(self, inputs):
        self.ran += 1
        return {"y": np.asarray(self.answers.pop(0))}

    def again(self):
        return self.fresh

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_runs_are_compared_to_the_bit_also_in_a_fresh_worker():
    same = np.float32([1.0, np.nan])
    session = Fixed(same, same, same, fresh=Fixed(same))
    fidelity.assert_deterministic(session, None)
    assert (session.ran, session.fresh.ran) == (3, 1)
    other = np.float32([1.0, 2.0])
    with pytest.raises(
        AssertionError, match="not deterministic: output 'y' differs in run 3 in 1 of 2 values"
    ):
        fidelity.assert_deterministic(Fixed(other, other, np.float32([1, 3])), None)
    with pytest.raises(AssertionError, match="differs in a fresh worker in 2 of 2 values"):
        fidelity.assert_deterministic(
            Fixed(other, other, fresh=Fixed(np.float32([0, 0]))), None, repeats=2
        )
    with pytest.raises(AssertionError, match=r"has shape \(3,\) in run 2, not \(2,\)"):
        fidelity.assert_deterministic(Fixed(other, np.zeros(3)), None)
    for count in (1, 0):
        with pytest.raises(OptionError, match=f"repeats={count}: one run proves nothing"):
            fidelity.assert_deterministic(Fixed(other), None, repeats=count)


def test_outputs_are_held_to_a_reference_by_name_or_in_order():
    session = Fixed()
    outputs = {"y": np.int8([1, 5])}
    for expected in ({"y": np.int8([1, 5])}, {"z": np.int8([1, 5])}, [[1, 5]], np.int8([1, 5])):
        fidelity.assert_within_steps(session, outputs, expected)
    fidelity.assert_within_steps(session, outputs, np.int8([1, 7]), max_steps=2)
    with pytest.raises(AssertionError, match=r"3 steps.*\(allowed 2\): at \[1\] 5 instead of 8; 1"):
        fidelity.assert_within_steps(session, outputs, np.int8([1, 8]), max_steps=2)
    with pytest.raises(AssertionError, match="2 of 2 values differ by more"):
        fidelity.assert_within_steps(session, outputs, np.int8([2, 8]))
    with pytest.raises(InputError, match="the model has 1 outputs, the reference 2"):
        fidelity.assert_within_steps(session, outputs, [np.int8([1]), np.int8([5])])
    with pytest.raises(InputError, match="the reference has no output 'y'"):
        fidelity.assert_within_steps(session, outputs, {"a": 1, "b": 2})
    with pytest.raises(InputError, match=r"has shape \[2\], the reference \[3\]"):
        fidelity.assert_within_steps(session, outputs, np.int8([1, 5, 6]))
    empty = {"y": np.zeros((0,), np.int8)}
    fidelity.assert_within_steps(session, empty, np.zeros((0,), np.int8))


def test_complex_outputs_may_be_infinite_too():
    fidelity.assert_finite({"y": np.complex64([1 + 1j]), "n": np.int8([1])})
    with pytest.raises(AssertionError, match=r"1 of 2 values .* first at \[1\]"):
        fidelity.assert_finite({"y": np.complex64([1, np.inf])})
