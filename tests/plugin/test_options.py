"""Where the selection comes from, and what a wrong one says."""

import subprocess
import sys
import textwrap

import pytest

A_TEST = "def test_x(device): pass"
HEAVY = ("numpy", "msgspec", "docker", "hypothesis", "rich", "click", "edge_harness.device.device")


def test_importing_the_plugin_imports_nothing_heavy():
    script = f"import sys, edge_harness.plugin; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_run_without_devices_imports_and_prints_nothing(pytester, edge):
    pytester.makepyfile(
        f"""
        import sys
        def test_x():
            ours = {{m for m in sys.modules if m.startswith("edge_harness.")}}
            print("loaded", sorted(ours))
            assert ours == {{
                "edge_harness.golden",
                "edge_harness.golden.running_test",
                "edge_harness.plugin",
                "edge_harness.pytest_support",
                "edge_harness.pytest_support.options",
                "edge_harness.pytest_support.short_names",
            }}
            assert not set({HEAVY}) & set(sys.modules)
        """
    )
    result = edge(subprocess=True)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("edge:*")
    result.stdout.no_fnmatch_line("*edge devices*")


def test_without_a_device_the_skip_names_the_option_and_sets_nothing_up(pytester, edge):
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session")
        def costly(): raise RuntimeError("was set up")
        def test_x(costly, device): pass
        def test_y(fresh_device): pass
        def test_plain(): pass
        """
    )
    result = edge("-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*no device selected: run pytest --device=rpi4*"])


def test_without_a_device_strict_makes_it_an_error(pytester, edge):
    pytester.makepyfile(A_TEST)
    result = edge("--edge-strict")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*OptionError: no device selected: run pytest --device=rpi4*"])
    result.stdout.no_fnmatch_line("*hidden*")


@pytest.mark.parametrize(
    "words",
    [
        ["--device=rpi4,rpi5"],
        ["--device", "rpi4", "--device", "rpi5"],
        ["--device=rpi4", "--edge-device=rpi5"],
        ["--device= rpi4 , rpi5 ,"],
        ["--device=pi4,pi5"],
        ["--device=rpi[45]"],
        ["--device=rpi4,rpi5,rpi4"],
    ],
)
def test_devices_are_selected_by_name_list_alias_and_glob(pytester, listed, words):
    pytester.makepyfile(A_TEST)
    assert listed(*words) == ["test_x[rpi4]", "test_x[rpi5]"]


def test_all_selects_every_profile(pytester, listed):
    from edge_harness.profiles import default_registry

    pytester.makepyfile(A_TEST)
    assert listed("--device=all") == [f"test_x[{name}]" for name in default_registry().names()]


def test_the_command_line_goes_before_the_environment_before_the_ini_file(
    pytester, listed, monkeypatch
):
    pytester.makepyfile(A_TEST)
    pytester.makeini("[pytest]\nedge_devices = rpi2, rpi4")
    assert listed() == ["test_x[rpi2]", "test_x[rpi4]"]
    monkeypatch.setenv("EDGE_DEVICE", "rpi3b,rpi4")
    assert listed() == ["test_x[rpi3b]", "test_x[rpi4]"]
    assert listed("--device=rpi5") == ["test_x[rpi5]"]
    monkeypatch.setenv("EDGE_DEVICE", "")
    assert listed() == ["test_x[rpi2]", "test_x[rpi4]"]


def test_the_engine_comes_from_the_same_three_places(pytester, edge, monkeypatch):
    pytester.makepyfile(A_TEST)
    host = ["edge: rpi4: *; engine host (*"]
    pytester.makeini("[pytest]\nedge_engine = host")
    edge("--co", "--device=rpi4").stdout.fnmatch_lines(host)
    pytester.makeini("[pytest]\nedge_engine = docker")
    monkeypatch.setenv("EDGE_ENGINE", "host")
    edge("--co", "--device=rpi4").stdout.fnmatch_lines(host)
    monkeypatch.setenv("EDGE_ENGINE", "docker")
    for option in ("--engine", "--edge-engine"):
        edge("--co", "--device=rpi4", f"{option}=host").stdout.fnmatch_lines(host)


def test_strictness_comes_from_the_same_three_places(pytester, edge, monkeypatch):
    pytester.makepyfile(A_TEST)
    pytester.makeini("[pytest]\nedge_strict = true")
    edge().assert_outcomes(errors=1)
    edge("--no-edge-strict").assert_outcomes(skipped=1)
    monkeypatch.setenv("EDGE_STRICT", "0")
    edge().assert_outcomes(skipped=1)
    edge("--edge-strict").assert_outcomes(errors=1)
    monkeypatch.setenv("EDGE_STRICT", "yes")
    edge().assert_outcomes(errors=1)


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (["--device=rpi9"], {}, "there is no device 'rpi9'; did you mean 'rpi"),
        (["--device=foo*"], {}, "no device matches 'foo*'"),
        (["--device="], {}, "--device: '' names no device"),
        (["--device=rpi4", "--edge-profiles=no"], {}, "no folder of device profiles at"),
        (["--device=rpi4", "--engine=qemu"], {}, "invalid choice: 'qemu'"),
        (["--edge-memory-mib=0"], {}, "'0' is not a whole, positive number of MiB"),
        (["--edge-memory-mib=4G"], {}, "'4G' is not a whole, positive number of MiB"),
        ([], {"EDGE_DEVICE": "rpi9"}, "there is no device 'rpi9'"),
        ([], {"EDGE_ENGINE": "qemu"}, "environment variable EDGE_ENGINE: there is no engine"),
        ([], {"EDGE_STRICT": "maybe"}, "EDGE_STRICT: 'maybe' is neither true nor false; use 1"),
    ],
)
def test_a_wrong_option_is_one_message_and_exit_status_4(
    pytester, edge, monkeypatch, words, environment, message
):
    pytester.makepyfile(A_TEST)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = edge(*words, subprocess=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_a_wrong_engine_in_the_ini_file_is_named(pytester, edge):
    pytester.makeini("[pytest]\nedge_engine = qemu")
    result = edge()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ini value edge_engine: there is no engine 'qemu'; use one of: auto, user" in (
        result.stderr.str()
    )


def test_a_broken_profile_is_one_message(pytester, edge):
    (pytester.mkdir("mine") / "board.toml").write_text('extends = "rpi4"\ncolour = "red"\n')
    pytester.makepyfile(A_TEST)
    result = edge("--device=board", "--edge-profiles=mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *board.toml*colour*"])
    assert "Traceback" not in result.stderr.str()


def test_profiles_of_ones_own_are_found(pytester, listed):
    pytester.makepyfile(A_TEST)
    for folder, name in (("device_profiles", "one"), ("mine", "two"), ("more", "three")):
        (pytester.mkdir(folder) / f"{name}.toml").write_text('extends = "rpi4"\n')
    given = ["--edge-profiles=mine", "--edge-profiles=more"]
    assert listed("--device=one,two,three", *given) == [
        "test_x[one]",
        "test_x[two]",
        "test_x[three]",
    ]
    pytester.makeini("[pytest]\nedge_profiles =\n  mine\n  more")
    sub = pytester.mkdir("sub")
    (sub / "test_sub.py").write_text(A_TEST)
    pytester.chdir()
    assert listed("--device=three", "sub") == ["test_x[three]"]


PLAYWRIGHT = textwrap.dedent(
    """
    def pytest_addoption(parser):
        group = parser.getgroup("playwright", "Playwright")
        group.addoption("--device", default=None, action="store", help="Device to emulate")
    """
)


def test_device_gives_way_to_another_plugin_that_has_it(pytester, edge):
    pytester.makepyfile(
        fake_playwright=PLAYWRIGHT,
        test_it="""
        def test_theirs(pytestconfig): assert pytestconfig.getoption("--device") == "iPhone 13"
        def test_x(device): pass
        """,
    )
    pytester.syspathinsert()
    result = edge("-p", "fake_playwright", "--device=iPhone 13", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*run pytest --edge-device=rpi4*"])
    result = edge("-p", "fake_playwright", "--device=iPhone 13", "--edge-device=rpi4", "--co", "-q")
    result.stdout.fnmatch_lines(["*::test_x?rpi4?"])


def test_device_gives_way_to_a_conftest_file_that_has_it(pytester, edge):
    pytester.makeconftest(PLAYWRIGHT)
    pytester.makepyfile(
        "def test_theirs(pytestconfig): assert pytestconfig.getoption('--device') == 'cuda:0'"
    )
    edge("--device", "cuda:0").assert_outcomes(passed=1)


def test_a_device_given_as_two_words_hides_no_conftest_file(pytester, listed):
    pytester.makeini("[pytest]\ntestpaths = checks")
    checks = pytester.mkdir("checks")
    (checks / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--mine', default='')"
    )
    (checks / "test_it.py").write_text(A_TEST)
    assert listed("--device", "rpi4", "--mine=yes") == ["test_x[rpi4]"]


def test_the_marker_and_the_options_are_in_pytests_own_help(pytester, edge):
    edge("--markers").stdout.fnmatch_lines(["@pytest.mark.edge(devices=..., needs=...*"])
    text = edge("--help").stdout.str()
    for word in ("--edge-device", "--device", "--engine", "--edge-strict", "edge_devices"):
        assert word in text


def test_a_runtime_comes_from_the_command_line_the_environment_or_the_ini_file(
    pytester, fake_devices, record, monkeypatch
):
    pytester.makepyfile(A_TEST)
    pytester.makeini("[pytest]\nedge_runtime = onnxruntime==1.20.1")
    fake_devices("--device=rpi4").assert_outcomes(passed=1)
    monkeypatch.setenv("EDGE_RUNTIME", "onnxruntime==1.20.0 litert")
    fake_devices("--device=rpi4").assert_outcomes(passed=1)
    result = fake_devices("--device=rpi4", "--edge-runtime", "onnxruntime==1.21.0")
    result.stdout.fnmatch_lines(["edge: rpi4*; runtime onnxruntime==1.21.0"])
    assert record("runtimes") == [
        "runtimes onnxruntime==1.20.1",
        "runtimes onnxruntime==1.20.0,litert",
        "runtimes onnxruntime==1.21.0",
    ]


def test_an_unknown_runtime_is_one_message_before_any_test(pytester, fake_devices):
    pytester.makepyfile(A_TEST)
    result = fake_devices("--device=rpi4", "--edge-runtime=torch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --edge-runtime: there is no runtime 'torch'*"])
