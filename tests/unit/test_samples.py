"""Samples read from files, whatever is in them, and drawn ones."""

import contextlib
import io
import os
import struct
import warnings
import zipfile

import numpy as np
import pytest
from edge_harness.errors import InputError
from edge_harness.models import archives
from edge_harness.models.archives import Unreadable, read_arrays
from edge_harness.models.samples import arrange_samples, drawn, made_up, read_samples

from tests.makers import tensor


def saved(tmp_path, /, **arrays):
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    return path


def arranged(tmp_path, tensors, /, **arrays):
    path = saved(tmp_path, **arrays)
    return arrange_samples(read_samples(path), tensors, path)


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
    inputs = [tensor("a"), tensor("b", signature=(2,))]
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
        read_samples(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "begins with b'text'"),
        (b"PK\x03\x04broken", "the archive is damaged"),
        (b"", "begins with b''"),
    ],
)
def test_other_and_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_samples(path)


def test_a_single_array_is_the_inputs(tmp_path):
    np.save(tmp_path / "one.npy", np.ones((4, 3), "f4"))
    found = read_samples(tmp_path / "one.npy")
    assert list(found) == ["inputs"]
    rows, labels = arrange_samples(found, [tensor()], "one.npy")
    assert ([row[0].tolist() for row in rows], labels) == ([[[1, 1, 1]]] * 4, None)


def test_a_missing_file_a_folder_and_a_pipe_say_what_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("none.npz", "there is no file"),
        ("", "not a regular file"),
        ("pipe", "not a regular file"),
    ):
        with pytest.raises(InputError, match=message):
            read_samples(tmp_path / name)


def test_text_and_an_empty_archive_are_no_samples(tmp_path):
    with pytest.raises(InputError, match="the array 'x' holds str"):
        read_samples(saved(tmp_path, x=np.array(["text"])))
    with pytest.raises(InputError, match="no array in it"):
        read_samples(saved(tmp_path))


def test_arrays_without_names_go_in_the_models_order(tmp_path):
    path = tmp_path / "samples.npz"
    np.savez(path, np.zeros((4, 3), "f4"), np.ones((4, 2), "f4"))
    inputs = [tensor("a"), tensor("b", signature=(2,))]
    rows, _ = arrange_samples(read_samples(path), inputs, path)
    assert [array.tolist() for array in rows[0]] == [[[0, 0, 0]], [1, 1]]


def test_one_sample_needs_no_axis_for_more(tmp_path):
    rows, _ = arranged(tmp_path, [tensor(signature=(8, 3))], x=np.zeros((8, 3), "f4"))
    assert [row[0].shape for row in rows] == [(8, 3)]


# -- hostile files ---------------------------------------------------------------------------


def npy(header=None, data=b"", *, version=(1, 0), start=b"\x93NUMPY"):
    if header is None:
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
    text = header.encode("utf-8" if version[0] == 3 else "latin-1") + b"\n"
    form = "<H" if version[0] == 1 else "<I"
    return start + bytes(version) + struct.pack(form, len(text)) + text + data


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_npy", ".npy"), content)
    return file.getvalue()


def header(**changes):
    return repr({"descr": "<f4", "fortran_order": False, "shape": (2,)} | changes)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npy(data=b"1234567"), "cut short: 7 of its 8 bytes"),
        (npy(data=b"123456789"), "more bytes than its 8"),
        (npy(header(shape=(2**62,))), "claims 18446744073709551616 bytes, more than"),
        (npy(header(shape=(-1,))), "no sensible shape"),
        (npy(header(shape=(2.0,))), "no sensible shape"),
        (npy(header(shape=(True,))), "no sensible shape"),
        (npy(header(shape=[2])), "no sensible shape"),
        (npy(header(fortran_order=1)), "no sensible shape"),
        (npy(header(descr="|O")), "Python objects, which are never loaded"),
        (npy(header(descr="|V8"), b"12345678" * 2), "holds void64, not numbers"),
        (npy(header(descr="<M8[s]")), "not numbers"),
        (npy(header(descr=[("a", "<f4")])), "a table with fields"),
        (npy(header(descr="no type")), "is damaged"),
        (npy(header(more=1)), "without descr, fortran_order and shape"),
        (npy("[]"), "without descr, fortran_order and shape"),
        (npy("{" * 900), "is damaged"),
        (npy("-" * 9000 + "1"), "the array"),
        (npy(" " * 20_000), "a header of 20001 bytes"),
        (npy(version=(4, 0)), "format 4.0"),
        (npy(version=(2, 0)) + b"1234567", "cut short: 7 of its 8 bytes"),
        (npy()[:9], "is damaged"),
        (npy()[:7], "begins with"),
        (zipped(a_npy=npy(start=b"\x93NUMPX")), "array 'a' is no array"),
        (zipped(a_npy=npy(header(shape=(99,)), b"1" * 8)), "array 'a' claims 396 bytes"),
        (zipped(a_npy=npy(data=b"1" * 7)), "array 'a' is cut short"),
        (zipped(a_txt=b"hello"), "member 'a_txt' is no array"),
        (zipped(a_npy=npy(data=b"1" * 8))[:-9], "the archive is damaged"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(content, told):
    with pytest.raises(Unreadable) as caught:
        read_arrays(content)
    assert told in str(caught.value)


@pytest.mark.parametrize("at", range(30, 150, 7))
def test_damage_anywhere_is_our_error(at):
    good = zipped(a_npy=npy(data=bytes(8)), b_npy=npy(data=bytes(range(8))))
    bad = good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]
    with contextlib.suppress(Unreadable):
        read_arrays(bad)


def test_a_changed_byte_of_data_is_found_by_its_checksum():
    good = npy(data=b"12345678")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", good)
    content = file.getvalue()
    at = content.index(b"12345678")
    with pytest.raises(Unreadable, match="array 'a' is damaged: Bad CRC"):
        read_arrays(content[:at] + b"X" + content[at + 1 :])


def test_encrypted_and_doubled_members_are_refused():
    content = bytearray(zipped(a_npy=npy(data=bytes(8))))
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    content[6] |= 1
    with pytest.raises(Unreadable, match="array 'a' is damaged"):
        read_arrays(bytes(content))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a.npy", npy(data=bytes(8)))
        archive.writestr("a.npy", npy(data=bytes(8)))
    with pytest.raises(Unreadable, match="two arrays of the name 'a'"):
        read_arrays(file.getvalue())


def test_sizes_are_bounded_before_memory_is_taken(monkeypatch):
    big = zipped(a_npy=npy(header(shape=(1 << 20,)), bytes(4 << 20)))
    assert len(big) < 10_000
    with pytest.raises(Unreadable, match="more than 1000000"):
        read_arrays(big, most_bytes=1_000_000)
    monkeypatch.setattr(archives, "MOST_ARRAYS", 1)
    with pytest.raises(Unreadable, match="it has 2 arrays, more than 1"):
        read_arrays(zipped(a_npy=npy(), b_npy=npy()))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), "f4"),
        np.array(7, "i8"),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.array([1 + 2j], "c8"),
        np.array(["names", "ü"]),
        np.arange(300_000),
    ],
    ids=lambda array: array.dtype.str,
)
def test_plain_arrays_come_back_as_they_were(tmp_path, array):
    np.savez_compressed(tmp_path / "a.npz", x=array)
    np.save(tmp_path / "a.npy", array)
    for found in (
        read_arrays(tmp_path / "a.npz")["x"],
        read_arrays((tmp_path / "a.npz").read_bytes())["x"],
        read_arrays(tmp_path / "a.npy")[""],
    ):
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()
        assert found.flags.writeable


# -- drawn -----------------------------------------------------------------------------------


def test_drawn_samples_are_the_same_every_time_and_cover_the_steps():
    inputs = [tensor(dtype="int8", signature=(1, 400), scales=(0.1,), zero_points=(0,))]
    first, again = drawn(inputs), drawn(inputs)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert (first[0][0].min(), first[0][0].max()) == (-128, 127)


def test_indices_are_not_guessed():
    with pytest.raises(InputError, match="cannot be guessed"):
        drawn([tensor(dtype="int64")])


@pytest.mark.parametrize("dtype", ["float16", "complex64", "bool", "int16", "uint32", "int64"])
def test_drawn_samples_have_the_inputs_dtype_and_their_count(dtype):
    inputs = [tensor(dtype=dtype, signature=(-1, 50), scales=(0.5,), zero_points=(0,))]
    rows = drawn(inputs, count=3, seed=1)
    assert [(row[0].dtype, row[0].shape) for row in rows] == [(np.dtype(dtype), (1, 50))] * 3
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        assert rows[0][0].max() > limits.max * 0.8
        assert rows[0][0].min() <= limits.min * 0.8 + 0.2 * limits.max


def test_made_up_inputs_are_small_where_they_may_be_indices():
    types = [("int64", (1, 90)), ("int8", (900,)), ("float32", (90,)), ("bool", (90,))]
    index, byte, real, truth = made_up(types, seed=3)
    assert sorted(set(index.ravel().tolist())) == [0, 1]
    assert (byte.min() < -120, byte.max() > 120) == (True, True)
    assert (-1 <= real.min() < 0 < real.max() < 1, truth.dtype) == (True, np.dtype(bool))
    again = made_up(types, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(again, (index, byte, real, truth), strict=True))
    with pytest.raises(InputError, match="cannot be made up"):
        made_up([("U3", (1,))], seed=0)
