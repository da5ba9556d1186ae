"""``--edge-update-goldens`` and the fixture ``golden``."""

import pytest

TEST = """
import numpy as np
import pytest

from edge_harness.golden import assert_golden

VALUE = 1


def test_one(golden):
    golden.assert_golden({"y": np.int8([VALUE, 2])})


@pytest.mark.parametrize("n", [1, 2])
class TestMore:
    def test_two(self, n):
        assert_golden(np.float32([n]))
        assert_golden(np.float32([n + VALUE]))
        assert_golden(np.zeros(3000), "zeros")
"""


@pytest.fixture
def goldens(pytester):
    def listed():
        folder = pytester.path / "goldens" / "test_it"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    return listed


WRITTEN = [
    "TestMore_test_two_1_-2.txt",
    "TestMore_test_two_1_-zeros.npz",
    "TestMore_test_two_1_-zeros.txt",
    "TestMore_test_two_1.txt",
    "TestMore_test_two_2_-2.txt",
    "TestMore_test_two_2_-zeros.npz",
    "TestMore_test_two_2_-zeros.txt",
    "TestMore_test_two_2.txt",
    "test_one.txt",
]


def test_missing_goldens_fail_with_the_command_and_nothing_is_written(pytester, edge, goldens):
    pytester.makepyfile(test_it=TEST)
    result = edge()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*GoldenFailed: there is no golden goldens/test_it/test_one.txt",
            "*next: look at the outputs, then write it with*--edge-update-goldens *::test_one",
        ]
    )
    assert goldens() == []


def test_the_option_writes_them_and_later_runs_compare(pytester, edge, goldens):
    pytester.makepyfile(test_it=TEST)
    result = edge("--edge-update-goldens")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*edge goldens*", "written: goldens/test_it/test_one.txt"])
    assert sorted(goldens()) == sorted(WRITTEN)
    edge().assert_outcomes(passed=3)
    pytester.makepyfile(test_it=TEST.replace("VALUE = 1", "VALUE = 4"))
    result = edge()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*'y' is up to 3 steps off (allowed 0): at ?0? 4 instead of 1*"])
    result = edge("--edge-update-goldens")
    result.assert_outcomes(passed=3)
    lines = [line for line in result.outlines if line.startswith("written")]
    assert len(lines) == 3, "what did not change is not written"
    edge().assert_outcomes(passed=3)
    edge("--edge-update-goldens").stdout.fnmatch_lines(["nothing changed"])


def test_xdist_workers_write_and_the_run_lists_it(pytester, edge, goldens):
    pytester.makepyfile(test_it=TEST)
    result = edge("-n", "2", "--edge-update-goldens", subprocess=True)
    result.assert_outcomes(passed=3)
    assert sorted(goldens()) == sorted(WRITTEN)
    assert len([line for line in result.outlines if line.startswith("written")]) == 7


def test_devices_have_goldens_of_their_own_or_one_together(pytester, fake_devices, goldens):
    pytester.makepyfile(
        test_it="""
        import numpy as np
        import pytest

        def test_own(device, golden):
            golden.assert_golden(np.int8([len(device.name)]))

        @pytest.mark.parametrize("n", [3])
        def test_shared(device, golden, n):
            golden.assert_golden(np.int8([n]), per_device=False)
        """
    )
    result = fake_devices("--device=rpi4,rpi5", "--edge-update-goldens")
    result.assert_outcomes(passed=4)
    assert sorted(goldens()) == ["test_own_rpi4.txt", "test_own_rpi5.txt", "test_shared_3.txt"]
    fake_devices("--device=rpi4,rpi5").assert_outcomes(passed=4)
    (pytester.path / "goldens" / "test_it" / "test_own_rpi5.txt").unlink()
    fake_devices("--device=rpi4,rpi5").stdout.fnmatch_lines(
        ["*pytest --edge-update-goldens --device=rpi5 --engine=host 'test_it.py::test_own?rpi5?'"]
    )
    fake_devices("--device=rpi5", "--edge-runtime=onnxruntime==1.21.0").stdout.fnmatch_lines(
        ["* --engine=host --edge-runtime=onnxruntime==1.21.0 'test_it.py::test_own?rpi5?'"]
    )


def test_a_projects_own_fixture_of_that_name_stays(pytester, edge):
    pytester.makeconftest(
        "import pytest\n@pytest.fixture\ndef golden():\n    return 'mine'\n",
    )
    pytester.makepyfile("def test_it(golden):\n    assert golden == 'mine'\n")
    edge().assert_outcomes(passed=1)


def test_outside_a_test_a_path_is_asked_for(pytester, edge):
    pytester.makepyfile(
        """
        import threading

        import numpy as np
        import pytest

        from edge_harness.errors import OptionError
        from edge_harness.golden import assert_golden

        def test_it():
            errors = []

            def work():
                try:
                    assert_golden(np.int8([1]))
                except OptionError as error:
                    errors.append(str(error))

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert "no test is running in this thread" in errors[0]
        """
    )
    edge().assert_outcomes(passed=1)
