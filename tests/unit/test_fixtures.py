import hashlib

import numpy as np
import pytest

import fixtures

NAMES = sorted(fixtures.catalogue())
WITH_GOLDEN = [name for name in NAMES if (fixtures.FOLDER / "golden" / f"{name}.npz").exists()]


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_the_one_in_the_catalogue_and_small(name):
    entry = fixtures.catalogue()[name]
    content = fixtures.model(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert len(content) == entry["bytes"] < 64 * 1024


def test_no_model_file_is_missing_from_the_catalogue():
    files = {path.name for path in (fixtures.FOLDER / "models").iterdir()} - {"MODELS.json"}
    assert files == {entry["file"] for entry in fixtures.catalogue().values()}


def test_the_models_that_users_meet_first_are_there_with_their_accuracy():
    entries = fixtures.catalogue()
    for name in ("digits_float", "digits_int8", "keyword_float", "keyword_int8"):
        assert entries[name]["test_accuracy"] > 0.9
    for name in ("autoencoder_float", "autoencoder_int8"):
        assert entries[name]["test_roc_auc"] > 0.9


@pytest.mark.parametrize("name", WITH_GOLDEN)
def test_golden_outputs_vary_with_their_inputs(name):
    data = fixtures.golden(name)
    assert len(data["inputs"]) == len(data["outputs"]) == len(data["labels"]) == 32
    assert len({output.tobytes() for output in data["outputs"]}) > 4


@pytest.mark.parametrize("name", WITH_GOLDEN)
def test_reference_kernels_on_this_machine_give_the_golden_outputs(name):
    runtime = pytest.importorskip("tflite_runtime.interpreter")
    interpreter = runtime.Interpreter(
        str(fixtures.model(name)),
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    (result,) = interpreter.get_output_details()
    data = fixtures.golden(name)
    for sample, expected in zip(data["inputs"], data["outputs"], strict=True):
        interpreter.set_tensor(entry["index"], sample[np.newaxis])
        interpreter.invoke()
        output = interpreter.get_tensor(result["index"])[0]
        if output.dtype == np.int8:
            assert np.array_equal(output, expected)
        else:
            # Softmax and sigmoid of floats call the C library's exp, which may differ by machine.
            np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
