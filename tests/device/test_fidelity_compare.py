"""Comparisons of models on an emulated Raspberry Pi 4."""

import json
import platform

import numpy as np
import pytest
from click.testing import CliRunner
from edge_harness import fidelity
from edge_harness.cli import main
from edge_harness.errors import MissingTool, OptionError
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry

pytest.importorskip("onnx")
from fixtures import small_onnx
from tests import planted


@pytest.fixture
def images(golden):
    return [image[np.newaxis] for image in golden("digits_int8")["inputs"]]


@pytest.fixture
def onnx_files(tmp_path):
    paths = {}
    for form in ("float", "qdq"):
        paths[form] = tmp_path / f"{form}.onnx"
        paths[form].write_bytes(getattr(small_onnx, f"classifier_{form}")())
    return paths


def test_the_same_file_asks_for_port_fidelity_and_another_for_quantization(board, models, images):
    with board.load(models / "digits_int8.tflite") as session:
        port = fidelity.assert_faithful(session, None, images)
        parent = fidelity.compare(session, models / "digits_float.tflite", images)
    assert (port.kind, port.passed) == ("port", True)
    assert (parent.kind, parent.passed, parent.classes) == ("quantization", True, True)
    assert parent.sqnr_db > 25
    assert 0 < parent.kl < 0.01
    assert parent.worst.inputs[0].shape == (1, 8, 8, 1)


def test_students_are_held_to_answers_with_labels(board, models, golden):
    data = golden("digits_int8")
    images = [image[np.newaxis] for image in data["inputs"]]
    with board.load(models / "digits_student_int8.tflite") as session:
        samples = [session.inputs[0].quantize(i / 255 + 128 / 255) for i in images]
        report = fidelity.compare(
            session,
            models / "digits_float.tflite",
            samples,
            kind="student",
            labels=data["labels"],
            tolerances={"top1_agreement": 0.8, "accuracy_ratio": 0.8},
        )
    assert report.passed, str(report)
    assert report.accuracy >= 0.8 * report.reference_accuracy > 0


def test_onnx_is_compared_with_the_evaluator_and_with_its_parent(board, onnx_files):
    images = small_onnx.images(8)
    with board.load(onnx_files["qdq"]) as session:
        port = fidelity.compare(session, None, images)
        parent = fidelity.compare(session, onnx_files["float"], images, task="classification")
    assert port.passed
    assert "onnx.reference" in port.reference
    assert port.max_ulp < 100
    assert parent.kind == "quantization"
    assert parent.sqnr_db > 30


def test_a_model_of_another_format_is_laid_out_and_matched(board, models, golden):
    with board.load(models / "digits_float.tflite") as session:
        report = fidelity.compare(
            session,
            models / "digits_qdq.onnx",
            [image[np.newaxis] for image in golden("digits_float")["inputs"]],
            inputs=lambda real: next(iter(real.values())).reshape(1, 64).astype(np.float32),
            kind="student",
            labels=golden("digits_float")["labels"],
        )
    assert report.reference_accuracy > 0.9


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="about x86")
def test_optimised_x86_kernels_as_reference_warn_with_the_reason(board, onnx_files):
    with board.load(onnx_files["qdq"]) as session:
        with pytest.warns(fidelity.ReferenceWarning, match="no golden reference.*VNNI"):
            report = fidelity.compare(session, None, small_onnx.images(2), by="native")
        assert "no golden reference" in report.warnings[0]
        assert "warning: " in str(report)
    with board.load(onnx_files["float"]) as session:  # and float models do not
        assert fidelity.compare(session, None, small_onnx.images(2), by="native").passed


def test_float_ends_around_integers_are_held_to_steps(board, models, golden, tmp_path):
    images = [image[np.newaxis] for image in golden("digits_int8_real_ends")["inputs"]]
    with board.load(models / "digits_int8_real_ends.tflite") as session:
        assert session.outputs[0].dtype == np.float32
        report = fidelity.assert_faithful(session, None, images)
    assert report.max_steps == 0  # and not NaN: there are steps behind the last operator
    path = tmp_path / "planted.tflite"
    sound = models / "digits_int8_real_ends.tflite"
    path.write_bytes(planted.lite_weights_shifted(sound.read_bytes(), 1, 5))
    with board.load(path) as session:
        bad = fidelity.compare(session, sound, images, kind="port")
        walk = fidelity.layers(session, sound, images[0])
    assert "steps, allowed max_steps=1" in bad.failures[0]
    assert (walk.first.position, walk.first.op) == (1, "CONV_2D")


def test_another_arm_device_is_a_reference_without_a_warning(board, models, images):
    rpi5 = default_registry().get("rpi5")
    with (
        open_device(rpi5, engine="user") as other,
        other.load(models / "digits_int8.tflite") as newer,
        board.load(models / "digits_int8.tflite") as session,
    ):
        report = fidelity.compare(session, newer, images[:4])
    assert report.kind == "port"
    assert report.equal
    assert "rpi5 (user)" in report.reference


def test_a_failure_shows_the_whole_comparison(board, models, images):
    with (
        board.load(models / "digits_int8.tflite") as session,
        pytest.raises(
            AssertionError, match=r"quantization fidelity: failed[\s\S]*FAILED.*sqnr_db=90"
        ),
    ):
        fidelity.assert_faithful(
            session, models / "digits_float.tflite", images, tolerances={"sqnr_db": 90}
        )


def test_wrong_arguments_are_refused(board, models, images):
    with board.load(models / "digits_int8.tflite") as session:
        for options, message in (
            ({"by": "hope"}, "'hope'"),
            ({"kind": "sort"}, "'sort'"),
            ({"task": "x"}, "'x'"),
            ({"by": "device"}, "with itself"),
        ):
            with pytest.raises(OptionError, match=message):
                fidelity.compare(session, None, images[:1], **options)


def test_without_the_package_an_onnx_reference_names_the_extra(board, onnx_files, monkeypatch):
    with board.load(onnx_files["float"]) as session:
        monkeypatch.setitem(__import__("sys").modules, "onnx", None)
        with pytest.raises(MissingTool) as error:
            fidelity.compare(session, None, small_onnx.images(1))
    assert "pytest-edge-harness[onnx]" in error.value.next_step


def test_the_command_passes_and_fails_by_its_status(models, tmp_path, golden):
    path = tmp_path / "samples.npz"
    np.savez(path, inputs=golden("digits_int8")["inputs"], labels=golden("digits_int8")["labels"])
    words = ["compare", str(models / "digits_int8.tflite"), str(models / "digits_float.tflite")]
    words += ["--device", "rpi4", "--engine", "user", "--samples", str(path), "--json"]
    passed = CliRunner().invoke(main, words)
    assert passed.exit_code == 0, passed.output
    report = json.loads(passed.stdout[passed.stdout.index("{") :])
    assert report["verdict"]["word"] == "passed"
    assert (report["kind"], report["samples"]) == ("quantization", 32)
    failed = CliRunner().invoke(
        main, [*words, "--tolerance", "sqnr_db=90", "--plot", str(tmp_path / "l.svg")]
    )
    assert (tmp_path / "l.svg").stat().st_size > 1000
    assert failed.exit_code == 1
    report = json.loads(failed.stdout[failed.stdout.index("{") :])
    assert report["failures"]
    assert len(report["layers"]["layers"]) == 8


def test_compressed_models_stand_in_one_table_for_each_device(open_on):
    from examples.compare_students import FORMS, compared

    for name in ("rpi4", "rpi5"):
        reports = compared(name, "user")
        assert list(reports) == list(FORMS)
        assert reports["digits_int8"].passed
        assert reports["digits_student_int8"].accuracy < reports["digits_int8"].accuracy
        assert "digits_pruned_int8" in fidelity.table_text(reports)
