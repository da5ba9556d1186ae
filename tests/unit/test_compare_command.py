"""The samples that ``edge-harness compare`` reads."""

import numpy as np
import pytest
from click.testing import CliRunner
from edge_harness.cli import main
from edge_harness.commands.compare import arrange_samples, drawn, parse_tolerances, read_npz
from edge_harness.errors import InputError, OptionError
from edge_harness.models.tensors import Tensor


def tensor(name="x", dtype="float32", shape=(1, 3), **fields):
    kind = np.dtype(dtype)
    return Tensor(name=name, index=0, dtype=kind, shape=shape, shape_signature=shape, **fields)


def saved(tmp_path, /, **arrays):
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    return path


def arranged(tmp_path, tensors, /, **arrays):
    path = saved(tmp_path, **arrays)
    return arrange_samples(read_npz(path), tensors, path)


@pytest.mark.parametrize("name", ["x", "inputs", "pictures"])
def test_one_input_takes_the_only_array_whatever_its_name(tmp_path, name):
    rows, labels = arranged(tmp_path, [tensor()], **{name: np.zeros((5, 3), "f4")})
    assert ([row[0].shape for row in rows], labels) == ([(1, 3)] * 5, None)


def test_labels_and_outputs_may_lie_beside_the_inputs(tmp_path):
    rows, labels = arranged(
        tmp_path,
        [tensor()],
        inputs=np.zeros((2, 1, 3), "f4"),
        outputs=np.zeros((2, 9)),
        labels=np.array([4, 7]),
    )
    assert (len(rows), labels) == (2, [4, 7])


def test_several_inputs_are_taken_by_name(tmp_path):
    inputs = [tensor("a"), tensor("b", shape=(2,))]
    rows, _ = arranged(tmp_path, inputs, b=np.ones((4, 2), "f4"), a=np.zeros((4, 3), "f4"))
    assert [array.shape for array in rows[0]] == [(1, 3), (2,)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros((2, 3)), "z": np.zeros((2, 3))}, "none is called 'x'"),
        ({"x": np.zeros((2, 4, 4, 4))}, r"shape \[2, 4, 4, 4\], the input takes \[1, 3\]"),
        ({"x": np.zeros((0, 3))}, r"\[0\] samples"),
        ({"x": np.zeros((2, 3)), "labels": np.zeros(3, int)}, "for 2 samples"),
        ({"x": np.zeros((2, 3)), "labels": np.zeros(2)}, "labels of float64"),
    ],
)
def test_samples_that_do_not_fit_are_refused_by_name(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        arranged(tmp_path, [tensor()], **arrays)


def test_different_numbers_of_samples_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\[2, 3\] samples"):
        arranged(tmp_path, [tensor("a"), tensor("b")], a=np.zeros((2, 3)), b=np.zeros((3, 3)))


def test_python_objects_are_never_loaded(tmp_path):
    path = saved(tmp_path, x=np.array([{}], object))
    with pytest.raises(InputError, match="Python objects, which are never loaded"):
        read_npz(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "begins with b'text'"),
        (b"PK\x03\x04broken", "cannot be read"),
        (b"", "begins with b''"),
    ],
)
def test_other_and_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_npz(path)


def test_a_single_array_and_a_missing_file_say_what_to_do(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"single array \(\.npy\)"):
        read_npz(tmp_path / "one.npy")
    with pytest.raises(InputError, match="there is no file"):
        read_npz(tmp_path / "none.npz")


def test_drawn_samples_are_the_same_every_time_and_cover_the_steps():
    inputs = [tensor(dtype="int8", shape=(1, 400), scales=(0.1,), zero_points=(0,))]
    first, again = drawn(inputs), drawn(inputs)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert (first[0][0].min(), first[0][0].max()) == (-128, 127)


def test_indices_are_not_guessed():
    with pytest.raises(InputError, match="cannot be guessed"):
        drawn([tensor(dtype="int64")])


def test_tolerances_are_words_with_numbers():
    assert parse_tolerances(["max_steps=2", "kl = 0.5"]) == {"max_steps": 2.0, "kl": 0.5}
    with pytest.raises(OptionError, match="'max_steps'"):
        parse_tolerances(["max_steps"])


def test_a_wrong_request_is_told_before_a_device_starts(tmp_path):
    result = CliRunner().invoke(main, ["compare", "m.tflite", "--samples", str(tmp_path / "no")])
    assert result.exit_code == 2
    assert "starting" not in result.output
    result = CliRunner().invoke(main, ["compare", "m.tflite", "--tolerance", "steps=1"])
    assert "there is no tolerance 'steps'" in result.output
