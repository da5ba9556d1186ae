"""``edge_device``, ``fresh_edge_device``, ``edge_golden`` always; the short names only where no
other plugin and no conftest file has them."""

import pytest

#: As pytest-playwright and pytest-golden have them.
OTHERS = {
    "browsers": """
        import pytest
        def pytest_addoption(parser):
            parser.getgroup("browsers").addoption("--device", default=None)
        @pytest.fixture(scope="session")
        def device(pytestconfig): return pytestconfig.getoption("--device")
    """,
    "snapshots": """
        import pytest
        @pytest.fixture
        def golden(): return "theirs"
    """,
}
THEIR_TESTS = """
    def test_page(device): assert device in (None, "Pixel 2")
    def test_snapshot(golden): assert golden == "theirs"
"""
OUR_TESTS = """
    import numpy as np
    def test_it(edge_device): assert edge_device.name == "rpi4"
    def test_new(fresh_edge_device): assert fresh_edge_device.name == "rpi4"
    def test_short(fresh_device): assert fresh_device.name == "rpi4"
    def test_profile(edge_device_profile): assert edge_device_profile.name == "rpi4"
    def test_values(edge_golden): edge_golden.assert_golden(np.int8([1]), path="x.txt", update=True)
"""


@pytest.fixture
def others(pytester):
    """Two plugins with our fixtures' names; ``others(*words)`` loads them in that order."""
    for name, text in OTHERS.items():
        pytester.makepyfile(**{name: text})
    pytester.syspathinsert()

    def words(*names):
        return [word for name in names for word in ("-p", name)]

    return words


@pytest.mark.parametrize("names", [("browsers", "snapshots"), ("snapshots", "browsers")])
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_tests_of_other_plugins_run_beside_ours(pytester, fake_devices, others, names, workers):
    pytester.makepyfile(test_theirs=THEIR_TESTS, test_ours=OUR_TESTS)
    words = [*others(*names), "--edge-device=rpi4", "--device=Pixel 2", *workers]
    fake_devices(*words, subprocess=True).assert_outcomes(passed=7)


def test_without_a_selected_device_theirs_run_and_ours_are_skipped(pytester, edge, others):
    pytester.makepyfile(test_theirs=THEIR_TESTS, test_ours=OUR_TESTS)
    result = edge(*others("browsers", "snapshots"), "-rs", subprocess=True)
    result.assert_outcomes(passed=3, skipped=4)
    result.stdout.fnmatch_lines(["SKIPPED*run pytest --edge-device=rpi4*"])
    result.stdout.no_fnmatch_line("edge:*")


def test_the_header_says_whose_the_short_names_are(pytester, fake_devices, others):
    pytester.makepyfile(test_theirs=THEIR_TESTS)
    result = fake_devices(*others("browsers", "snapshots"), "--edge-device=rpi4", subprocess=True)
    result.stdout.fnmatch_lines(
        [
            "edge: fixture device from the plugin browsers; ours: edge_device",
            "edge: fixture golden from the plugin snapshots; ours: edge_golden",
        ]
    )


def test_a_conftest_file_above_all_keeps_its_names_and_may_wrap_ours(pytester, fake_devices):
    (pytester.mkdir("tests") / "conftest.py").write_text(
        "import pytest\n"
        "@pytest.fixture\ndef golden(): return 'mine'\n"
        "@pytest.fixture\ndef device(device): return ('wrapped', device.name)\n"
    )
    (pytester.path / "tests" / "test_it.py").write_text(
        "def test_one(device, golden): assert (*device, golden) == ('wrapped', 'rpi4', 'mine')\n"
    )
    result = fake_devices("--device=rpi4", "tests")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "edge: fixture device, golden from tests/conftest.py; ours: edge_device, edge_golden",
            "*1 passed*",
        ]
    )


def test_a_conftest_file_of_a_folder_keeps_its_names_there_alone(pytester, fake_devices):
    pytester.makepyfile("def test_ours(device): assert device.name == 'rpi4'")
    (pytester.mkpydir("web") / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef device(): return 'Pixel 2'\n"
    )
    (pytester.path / "web" / "test_web.py").write_text(
        "def test_page(device): assert device == 'Pixel 2'\n"
        "def test_both(device, edge_device):\n"
        "    assert (device, edge_device.name) == ('Pixel 2', 'rpi4')\n"
    )
    for words in ((), ("-n2",)):
        fake_devices("--device=rpi4", *words).assert_outcomes(passed=3)


def test_both_names_are_one_device(pytester, fake_devices, record):
    pytester.makepyfile(
        """
        def test_one(device, edge_device): assert device is edge_device
        def test_two(edge_device, device): assert device is edge_device
        def test_fresh(fresh_device, fresh_edge_device): assert fresh_device is fresh_edge_device
        """
    )
    fake_devices("--device=rpi4,rpi5").assert_outcomes(passed=6)
    assert len([line for line in record("open") if " shared " in line]) == 2
    assert len([line for line in record("open") if " None " in line]) == 2


def test_ids_and_selection_are_the_same_by_either_name(pytester, listed):
    pytester.makepyfile("def test_a(device): pass\ndef test_b(edge_device): pass")
    ids = ["test_a[rpi4]", "test_b[rpi4]", "test_a[rpi5]", "test_b[rpi5]"]
    assert listed("--device=rpi4,rpi5") == ids
    assert listed("--device=rpi4,rpi5", "-k", "rpi5") == ids[2:]


def test_the_last_failed_run_again_by_the_long_name(pytester, fake_devices):
    pytester.makepyfile("def test_a(edge_device): assert edge_device.name != 'rpi5'")
    fake_devices("--device=rpi4,rpi5").assert_outcomes(passed=1, failed=1)
    fake_devices("--device=rpi4,rpi5", "--lf").assert_outcomes(failed=1)


def test_a_failure_carries_the_log_of_the_device_by_either_name(pytester, fake_devices):
    pytester.makepyfile(
        """
        def test_a(edge_device):
            edge_device.text += "what the board said\\n"
            assert 0
        """
    )
    result = fake_devices("--device=rpi4")
    result.stdout.fnmatch_lines(["*device log rpi4*", "what the board said"])


def test_fixtures_are_listed_with_what_they_are(edge):
    edge("--fixtures").stdout.fnmatch_lines(
        ["edge_device *session scope*", "device *session scope*", "golden *"], consecutive=False
    )
