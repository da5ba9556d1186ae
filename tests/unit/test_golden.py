import numpy as np
import pytest
from edge_harness import golden
from edge_harness.errors import OptionError
from edge_harness.golden import store

SMALL = {
    "int8": np.int8([[-128, 0, 127]]),
    "uint64": np.uint64([2**64 - 1, 0]),
    "bool": np.array([True, False]),
    "float16": np.float16([0.1, 6e-8]),
    "float32": np.float32([[0.1, 1e-45], [-3.4e38, np.nan]]),
    "float64": np.float64([0.1, 1 / 3, -np.inf]),
    "scalar": np.float32(2.5).reshape(()),
    "empty": np.zeros((0, 3), np.int32),
    'odd "name":0': np.int32([7]),
}


def equal(one, other):
    assert list(one) == list(other)
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        assert array.shape == other[name].shape
        assert array.tobytes() == other[name].tobytes()


def test_small_outputs_are_text_that_gives_back_every_bit(tmp_path):
    path = tmp_path / "a.txt"
    store.write(path, store.Golden(arrays=SMALL, made_by="rpi4"))
    equal(store.read(path).arrays, SMALL)
    assert store.read(path).made_by == "rpi4"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert "  -128 0 127\n" in path.read_text()


def test_big_outputs_go_beside_a_text_that_shows_a_change(tmp_path):
    path = tmp_path / "a.txt"
    big = {"x": np.random.default_rng(0).normal(0, 1, (1, 5000)).astype(np.float32)}
    store.write(path, store.Golden(arrays=big))
    equal(store.read(path).arrays, big)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "a.txt"]
    before = path.read_text()
    assert len(before.splitlines()) == 4
    once = (tmp_path / "a.npz").read_bytes()
    store.write(path, store.Golden(arrays=big))
    assert path.read_text() == before
    assert (tmp_path / "a.npz").read_bytes() == once, "the same outputs are the same file"
    store.write(path, store.Golden(arrays={"x": big["x"] + np.float32(0.5)}))
    assert path.read_text() != before
    store.write(path, store.Golden(arrays={"x": big["x"][:, :4]}))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"], "what is small now leaves no .npz"


def test_complex_outputs_are_kept_too(tmp_path):
    path = tmp_path / "a.txt"
    arrays = {"z": np.complex64([1 + 2j, -0.5j])}
    store.write(path, store.Golden(arrays=arrays))
    equal(store.read(path).arrays, arrays)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format 1", "format 9", "line 1 is not"),
        ("  -128 0 127", "  -128 1 127", "changed by hand, or merged"),
        ("  -128 0 127", "  -128 0", "the values of output 'int8'"),
        ("  -128 0 127", "  -128 0 999", "the values of output 'int8'"),
        ("  -128 0 127", "<<<<<<< HEAD", "line 3 is not understood"),
        ("int8 [1, 3]", "int99 [1, 3]", "the values of output 'int8'"),
    ],
)
def test_a_damaged_text_is_refused(tmp_path, old, new, message):
    path = tmp_path / "a.txt"
    store.write(path, store.Golden(arrays={"int8": SMALL["int8"]}))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(store.Damaged, match=message):
        store.read(path)


def test_an_npz_that_is_missing_or_pickled_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    store.write(path, store.Golden(arrays={"x": np.zeros(5000)}))
    np.savez(tmp_path / "a.npz", output0=np.array([{"pickled": 1}], object))
    with pytest.raises(store.Damaged, match=r"a\.npz cannot be read"):
        store.read(path)
    (tmp_path / "a.npz").unlink()
    with pytest.raises(store.Damaged, match="commit both"):
        store.read(path)


def check(path, outputs, **options):
    golden.assert_golden(outputs, path=path, update=False, **options)


@pytest.fixture
def kept(tmp_path):
    def keep(outputs):
        path = tmp_path / "kept.txt"
        golden.assert_golden(outputs, path=path, update=True)
        return path

    return keep


def test_whole_numbers_are_compared_in_steps(kept):
    path = kept({"y": np.int8([[1, 2, 3]])})
    check(path, {"y": np.int8([[1, 2, 3]])})
    check(path, {"y": np.int8([[1, 4, 3]])}, max_steps=2)
    with pytest.raises(golden.GoldenFailed) as failure:
        check(path, {"y": np.int8([[1, 4, 3]])})
    assert "'y' is up to 2 steps off (allowed 0): at [0, 1] 4 instead of 2" in str(failure.value)
    assert "next: if the new outputs are right" in str(failure.value)


def test_floats_are_compared_relatively_or_in_ulp(kept):
    one = np.float32([1.0, -2.0])
    path = kept({"y": one})
    near = np.nextafter(one, np.float32(9))
    check(path, {"y": near})
    check(path, {"y": near}, max_ulp=1)
    with pytest.raises(golden.GoldenFailed, match="up to 1 ULP off"):
        check(path, {"y": near}, max_ulp=0)
    with pytest.raises(golden.GoldenFailed, match="times the tolerance off"):
        check(path, {"y": one * np.float32(1.001)})


def test_ulp_know_nan_from_numbers(kept, tmp_path):
    nan = {"y": np.float32([np.nan, 1])}
    golden.assert_golden(nan, path=tmp_path / "n.txt", update=True, finite=False)
    check(tmp_path / "n.txt", nan, finite=False, max_ulp=0)
    with pytest.raises(golden.GoldenFailed, match="inf ULP off"):
        check(tmp_path / "n.txt", {"y": np.float32([1, 1])}, max_ulp=9)


def test_other_names_dtypes_and_shapes_are_told(kept):
    path = kept({"y": np.int8([1]), "z": np.int8([1])})
    with pytest.raises(golden.GoldenFailed, match=r"missing outputs: 'z'(.|\n)*not have: 'w'"):
        check(path, {"y": np.int8([1]), "w": np.int8([1])})
    with pytest.raises(golden.GoldenFailed, match=r"'y' is int16 \[1\], the golden int8 \[1\]"):
        check(path, {"y": np.int16([1]), "z": np.int8([1])})


def test_nan_is_never_golden_by_accident(kept, tmp_path):
    bad = {"y": np.float32([1, np.nan])}
    with pytest.raises(golden.GoldenFailed, match=r"1 of 2 values that are not finite"):
        kept(bad)
    golden.assert_golden(bad, path=tmp_path / "b.txt", update=True, finite=False)
    check(tmp_path / "b.txt", bad, finite=False)


def test_a_missing_golden_fails_and_is_not_written(tmp_path):
    with pytest.raises(golden.GoldenFailed, match=r"there is no golden .*a\.txt\n.*'output' int8"):
        check(tmp_path / "a.txt", np.int8([1]))
    assert not list(tmp_path.iterdir())


def test_outputs_of_many_runs_are_one_golden(kept, tmp_path):
    kept([{"y": np.int8([[i]])} for i in range(5)])
    assert store.read(tmp_path / "kept.txt").arrays["y"].shape == (5, 1, 1)
    with pytest.raises(OptionError, match="cannot be a str"):
        kept("nonsense")
