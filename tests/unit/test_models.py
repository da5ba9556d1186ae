import shutil

import pytest
from edge_harness.errors import ModelError
from edge_harness.models.file import read_model
from edge_harness.models.tflite import Damaged, verify
from edge_harness.runtimes import FORMATS
from hypothesis import given, settings
from hypothesis import strategies as st

import fixtures

MODEL = fixtures.model("digits_int8")


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
        ("weights.bin", b"\x80\x02}q\x00", r"no model of a known format \(TFLite, ONNX"),
        ("short.tflite", b"\x1c", "not a TFLite model"),
        # One byte, which every second file begins with, makes no ONNX model of them.
        ("a_byte.bin", b"\x08" * 40, r"no model of a known format \(TFLite, ONNX"),
        ("a_byte.tflite", b"\x08" * 40, "not a TFLite model"),
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
    assert read_model(tmp_path / "model.bin").format is FORMATS["tflite"]


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
