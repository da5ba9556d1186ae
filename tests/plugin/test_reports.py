"""What a person reads: errors and failures, sections, the summary, JUnit XML."""

import xml.etree.ElementTree as ElementTree

import pytest

BOTH = pytest.mark.parametrize("how", [["-p", "no:xdist"], ["-n2"]], ids=["alone", "xdist"])


@BOTH
def test_trouble_with_the_machinery_is_an_error_and_not_a_failed_test(pytester, fake_devices, how):
    pytester.makepyfile(
        """
        import pytest
        from edge_harness.errors import CacheError, ModelError
        def helper(): raise CacheError("the cache is full", next_step="make room")
        def test_machinery(device):
            helper()
        @pytest.mark.xfail(reason="the model is bad")
        def test_foreseen(device):
            helper()
        def test_model(device): raise ModelError("m.tflite is cut short")
        """
    )
    result = fake_devices("--device=rpi4", *how)
    result.assert_outcomes(errors=2, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "test_trouble*.py:5: in test_machinery",
            "    helper()",
            "E   edge_harness.errors.CacheError: the cache is full",
            "E*next: make room",
            "ERROR *::test_machinery?rpi4? - *CacheError: the cache is full",
            "FAILED *::test_model?rpi4? - *ModelError: m.tflite is cut short",
        ]
    )


def test_our_own_insides_are_not_shown_unless_asked_for(pytester, edge):
    pytester.makepyfile(
        """
        from edge_harness.profiles import default_registry
        def test_x():
            default_registry().get('rpi9')
        """
    )
    result = edge()
    result.stdout.fnmatch_lines(["test_our*.py:3: in test_x", "*get('rpi9')", "E*UnknownDevice*"])
    result.stdout.no_fnmatch_line("*profiles*registry*")
    edge("--full-trace").stdout.fnmatch_lines(["*profiles*registry*"])
    edge("--tb=line").stdout.fnmatch_lines(["*test_our*.py:3: *UnknownDevice*"])
    edge("--tb=long").stdout.fnmatch_lines([">*default_registry().get(*"])


def test_a_finding_raised_deep_inside_is_shown_at_the_tests_own_line(pytester, edge):
    pytester.makepyfile(
        """
        import numpy as np
        from edge_harness import fidelity
        from edge_harness.properties.failing import report_failing
        from edge_harness.properties.hunted import Hunt

        def test_x():
            fidelity.assert_finite({"y": np.array([np.nan])})

        def test_mine():
            assert 1 + 1 == 3, "mine"

        def test_bug_of_ours():
            report_failing(None, None, None, Hunt(asked=1), "finite", False, None)
        """
    )
    result = edge()
    result.stdout.fnmatch_lines(
        [
            "test_a_*.py:7: in test_x",
            "*fidelity.assert_finite(*",
            "E*AssertionError: output *",
            ">*assert 1 + 1 == 3*",
            "E*AssertionError: mine",
            ">*assert hunt.failing is not None",
        ]
    )
    result.stdout.no_fnmatch_line("*checks.py*")
    edge("--full-trace").stdout.fnmatch_lines(["*checks.py*"])


def test_other_exceptions_keep_their_traceback(pytester, edge):
    pytester.makepyfile("def test_x(): raise ValueError('mine')")
    edge().stdout.fnmatch_lines([">*raise ValueError('mine')", "E*ValueError: mine"])


@BOTH
def test_a_missing_ability_is_a_skip_and_counted_at_the_end(pytester, fake_devices, how):
    pytester.makepyfile(
        """
        import pytest
        from edge_harness.errors import MissingAbility
        @pytest.mark.edge(needs={"isa"})
        def test_1(device): pass
        @pytest.mark.edge(needs="isa")
        def test_2(fresh_device): pass
        def test_3(device): raise MissingAbility("the host engine cannot cut power")
        """
    )
    result = fake_devices("--device=rpi4", "-rs", *how)
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(
        [
            "*edge devices*",
            "skipped: the engine host cannot prove isa for rpi4*",
            "  2 tests: *::test_[12]?rpi4?, *::test_[12]?rpi4?",
            "next: edge-harness doctor",
        ]
    )
    result.stdout.fnmatch_lines(["SKIPPED*test_a_missing*: *cannot prove isa*--edge-strict*"])
    result.stdout.fnmatch_lines(["SKIPPED*cannot cut power*"])


def test_a_missing_ability_is_an_error_where_strict(pytester, fake_devices):
    pytester.makepyfile(
        """
        import pytest
        from edge_harness.errors import MissingAbility
        @pytest.mark.edge(needs={"isa"})
        def test_1(device): pass
        def test_2(device): raise MissingAbility("the host engine cannot cut power")
        """
    )
    fake_devices("--device=rpi4", "--edge-strict").assert_outcomes(errors=2)


CRASH = """
    import pytest
    from edge_harness.errors import IllegalInstruction
    def test_crash(device):
        for number in (1, 2):  # as Hypothesis does on its way to the smallest input
            device.crash(f"rpi4 died of SIGILL {number}")
        raise IllegalInstruction(
            "rpi4 died of SIGILL\\ndetails", details={"summary": "fmov needs FEAT_FP16"}
        )
    def test_program(device):
        device.crash("rpi4 died of SIGSEGV while running x\\nin libm.so\\nmore")
        assert 1 == 2
    def test_foreseen(device):
        device.crash("rpi4 died of a crash that was wanted")
"""


@BOTH
def test_crashes_are_summed_up_with_the_command_that_repeats_them(pytester, fake_devices, how):
    pytester.makepyfile(test_c=CRASH)
    result = fake_devices("--device=rpi4,rpi5", "-k", "rpi4", *how)
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines_random(
        [
            "*= edge devices =*",
            "rpi4 died of SIGILL: fmov needs FEAT_FP16",
            "  1 test: test_c.py::test_crash?rpi4?",
            "rpi4 died of SIGSEGV while running x: in libm.so",
        ]
    )
    text = result.stdout.str()
    assert "SIGILL 1" not in text.partition("= edge devices =")[2]
    assert "was wanted" not in text
    (command,) = [line for line in result.outlines if line.startswith("next: ")]
    assert command.startswith("next: pytest --device=rpi4 --engine=host 'test_c.py::test_")
    assert command.count("::") == 2


def test_a_warning_of_a_device_is_shown_once_with_its_command(pytester, fake_devices):
    pytester.makepyfile(
        """
        from edge_harness.device.results import Finding
        def test_1(device):
            device.findings.append(Finding(
                kind="warning", device="rpi4", text="not checked", command="edge-harness setup"
            ))
        def test_2(device): pass
        """
    )
    result = fake_devices("--device=rpi4")
    result.assert_outcomes(passed=2)
    assert [line for line in result.outlines if "not checked" in line] == ["warning: not checked"]
    result.stdout.fnmatch_lines(["  1 test: *::test_1?rpi4?", "next: edge-harness setup"])


def test_a_run_without_findings_has_no_section(pytester, fake_devices):
    pytester.makepyfile("def test_x(device): pass\ndef test_y(device): assert 0")
    result = fake_devices("--device=rpi4")
    assert "edge devices" not in result.stdout.str()
    assert [line for line in result.outlines if line.startswith("edge: ")]
    quiet = fake_devices("--device=rpi4", "-q")
    assert "edge: " not in quiet.stdout.str()


@BOTH
def test_a_failure_shows_what_the_device_logged_during_that_test(pytester, fake_devices, how):
    pytester.makepyfile(
        """
        def test_1(device): device.text += "of the first test\\n"
        def test_2(device):
            device.text += "".join(f"line {n}\\n" for n in range(150))
            assert 0
        """
    )
    result = (
        fake_devices("--device=rpi4", "--dist=loadfile", *how)
        if how[0] == "-n2"
        else (fake_devices("--device=rpi4", *how))
    )
    result.stdout.fnmatch_lines(["*device log rpi4*", "line 50", "line 149"])
    assert "of the first test" not in result.stdout.str()
    assert "line 49\n" not in result.stdout.str()


@BOTH
def test_junit_carries_what_ran_each_test(pytester, fake_devices, how):
    pytester.makepyfile(
        """
        from edge_harness.errors import CacheError
        def test_x(device): pass
        def test_y(device): raise CacheError("full")
        def test_plain(): pass
        """
    )
    fake_devices("--device=rpi4", "--junitxml=report.xml", *how)
    root = ElementTree.parse(pytester.path / "report.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    for name in ("test_x[rpi4]", "test_y[rpi4]"):
        found = {p.get("name"): p.get("value") for p in cases[name].iter("property")}
        assert found == {"edge_device": "rpi4", "edge_engine": "host", "edge_odd": "a\\x07b"}
    assert list(cases["test_plain"].iter("property")) == []
    assert [child.tag for child in cases["test_y[rpi4]"]][-1] == "error"


def test_a_missed_deadline_is_told_to_be_none(pytester, fake_devices):
    pytester.makepyfile(
        """
        import time
        from hypothesis import given, settings, strategies as st

        @settings(deadline=1, database=None, max_examples=2)
        @given(n=st.integers())
        def test_slow(device, n):
            time.sleep(0.01)
        """
    )
    result = fake_devices("--device=rpi4")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*wall clock of an emulator is no deadline*"])
