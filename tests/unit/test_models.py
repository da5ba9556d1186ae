import shutil

import pytest
from edge_harness.errors import ModelError, OptionError
from edge_harness.models.file import pinned, read_model, runtime_requirement
from edge_harness.models.tflite import Damaged, verify
from hypothesis import given, settings
from hypothesis import strategies as st

import fixtures

MODEL = fixtures.model("digits_int8")

DEFAULTS = {"tflite": "tflite-runtime==2.14.0", "onnx": "onnxruntime==1.20.1"}


def test_a_missing_file_names_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"no model file 'nope\.tflite'") as error:
        read_model("nope.tflite")
    assert str(tmp_path) in error.value.next_step


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.tflite", b"", "is empty"),
        ("text.tflite", b"this is only text", "not a TFLite model"),
        ("pointer.tflite", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("text.onnx", b"this is only text", "not an ONNX model"),
        ("weights.bin", b"\x80\x02}q\x00", "neither a TFLite nor an ONNX model"),
        ("short.tflite", b"\x1c", "not a TFLite model"),
    ],
)
def test_what_is_not_a_model_is_refused_by_name_and_reason(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=says) as error:
        read_model(tmp_path / name)
    assert name in str(error.value)
    assert error.value.next_step


def test_a_folder_is_not_a_model(tmp_path):
    with pytest.raises(ModelError, match="is a folder"):
        read_model(tmp_path)


def test_a_tflite_file_is_recognised_whatever_its_name(tmp_path):
    shutil.copy(MODEL, tmp_path / "model.bin")
    assert read_model(tmp_path / "model.bin").format == "tflite"


WHOLE = MODEL.read_bytes()


def why_damaged(content):
    try:
        verify(content)
    except Damaged as error:
        return str(error)
    return ""


@given(st.integers(8, len(WHOLE) - 1))
def test_a_model_cut_at_any_length_is_damaged_or_lost_only_padding(size):
    assert why_damaged(WHOLE[:size]) or len(WHOLE) - size < 64


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(8, len(WHOLE) - 1), st.integers(0, 255)), max_size=8))
def test_no_flipped_bytes_make_the_check_itself_fail(changes):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    why_damaged(bytes(content))


@pytest.mark.parametrize("path", sorted(MODEL.parent.glob("*.tflite")), ids=lambda p: p.stem)
def test_sound_models_pass(path):
    verify(path.read_bytes())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("tflite", ("tflite", "tflite-runtime==2.14.0")),
        ("litert", ("litert", "ai-edge-litert")),
        ("onnx", ("onnx", "onnxruntime==1.20.1")),
        ("onnxruntime", ("onnx", "onnxruntime==1.20.1")),
        ("onnxruntime==1.21.0", ("onnx", "onnxruntime==1.21.0")),
        ("ai_edge_litert==1.0.1", ("litert", "ai_edge_litert==1.0.1")),
    ],
)
def test_runtimes_are_named_short_or_pinned(asked, expected):
    assert runtime_requirement(asked, DEFAULTS) == expected


@pytest.mark.parametrize("asked", ["torch", "", "onnx runtime", "../evil"])
def test_an_unknown_runtime_lists_the_known_ones(asked):
    with pytest.raises(OptionError, match="no runtime") as error:
        runtime_requirement(asked, DEFAULTS)
    assert "tflite, litert, onnx" in error.value.next_step


PINS = ("onnxruntime==1.21.0", "litert")


@pytest.mark.parametrize(
    ("asked", "model_format", "expected"),
    [
        (None, "onnx", "onnxruntime==1.21.0"),
        (None, "tflite", "litert"),
        ("onnx", "onnx", "onnxruntime==1.21.0"),
        ("onnxruntime==1.20.1", "onnx", "onnxruntime==1.20.1"),
        ("tflite", "tflite", "tflite"),
    ],
)
def test_a_pin_fills_what_a_test_leaves_open(asked, model_format, expected):
    assert pinned(asked, PINS, model_format) == expected
    assert pinned(asked, (), model_format) == asked
