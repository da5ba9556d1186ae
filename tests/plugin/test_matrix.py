"""Which test runs on which devices, and under which id."""

import pytest

THREE = """
    import pytest
    def test_any(device): pass
    @pytest.mark.edge(devices=["rpi4", "rpi-zero*"])
    def test_some(device): pass
    @pytest.mark.edge(devices="rpi5")
    def test_five(fresh_device): pass
    def test_plain(): pass
"""


def test_collecting_lists_each_device_and_starts_nothing(pytester, fake_devices, record):
    pytester.makepyfile(THREE)
    result = fake_devices("--co", "-q", "--device=rpi4,rpi5")
    ids = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert sorted(ids) == [
        "test_any[rpi4]",
        "test_any[rpi5]",
        "test_five[rpi5]",
        "test_plain",
        "test_some[rpi4]",
    ]
    assert record("open") == []


def test_the_order_of_ids_is_that_of_the_selection(pytester, listed):
    pytester.makepyfile("def test_a(device): pass\ndef test_b(device): pass")
    wanted = ["test_a[rpi5]", "test_b[rpi5]", "test_a[rpi2]", "test_b[rpi2]"]
    assert listed("--device=rpi5,rpi2") == wanted
    assert listed("--device=rpi5,rpi2") == wanted


def test_a_test_meant_for_other_devices_is_skipped_with_the_reason(pytester, fake_devices):
    pytester.makepyfile(THREE)
    result = fake_devices("--device=rpi2", "-rs")
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines_random(
        ["SKIPPED*meant for rpi5; selected: rpi2", "SKIPPED*meant for rpi4, rpi-zero?; *rpi2"]
    )


def test_the_closest_mark_names_the_devices_and_needs_add_up(pytester, fake_devices):
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.edge(devices="rpi2")
        def test_module(device): pass
        class TestIt:
            pytestmark = pytest.mark.edge(devices="rpi5,rpi4", needs="isa")
            def test_class(self, device): pass
            @pytest.mark.edge(devices="rpi4", needs={"numerics", "kernel"})
            def test_function(self, device): pass
        """
    )
    result = fake_devices("--device=rpi2,rpi4,rpi5", "-v")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines_random(
        [
            "*::test_module?rpi2? PASSED*",
            "*::test_class?rpi4? SKIPPED*",
            "*::test_class?rpi5? SKIPPED*",
            "*::test_function?rpi4? SKIPPED*",
            "skipped: *cannot prove isa for rpi4",
            "skipped: *cannot prove isa, kernel, numerics for rpi4",
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("needs='offlin'", "there is no ability 'offlin'; did you mean 'offline'?"),
        ("needs=3", "needs=3 is not a name or a list of names"),
        ("needs=['isa', 3]", "needs=['isa', 3] is not a name or a list of names"),
        ("need='offline'", "there is no argument 'need'; did you mean 'needs'?"),
        ("'rpi4'", "'rpi4' was given without a name"),
        ("engine='qemu'", "engine='qemu': there is no such engine"),
        ("devices=[]", "devices=[] is not a name or a list of names"),
        ("devices='rpi9'", "there is no device 'rpi9'; did you mean"),
    ],
)
def test_a_wrong_mark_stops_the_run_with_one_message(pytester, edge, arguments, message):
    pytester.makepyfile(
        f"""
        import pytest
        @pytest.mark.edge({arguments})
        def test_x(device): pass
        """
    )
    result = edge("--device=rpi4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "@pytest.mark.edge on test_a_wrong_mark" in result.stderr.str()
    assert message in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_a_wrong_mark_is_told_without_a_device_too(pytester, edge):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.edge(needs="offlin")
        def test_x(device): pass
        """
    )
    assert edge().ret == pytest.ExitCode.USAGE_ERROR


def test_a_wrong_mark_is_told_under_xdist(pytester, edge):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.edge(needs="offlin")
        def test_x(device): pass
        """
    )
    result = edge("--device=rpi4", "-n2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*no ability 'offlin'; did you mean 'offline'?*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_k_selects_by_device(pytester, fake_devices):
    pytester.makepyfile(THREE)
    fake_devices("--device=rpi4,rpi5", "-k", "rpi5").assert_outcomes(passed=2, deselected=3)


def test_last_failed_repeats_the_device_that_failed(pytester, fake_devices):
    pytester.makepyfile("def test_x(device): assert device.name != 'rpi5'")
    fake_devices("--device=rpi4,rpi5").assert_outcomes(passed=1, failed=1)
    result = fake_devices("--device=rpi4,rpi5", "--lf", "-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*::test_x?rpi5? FAILED*"])


def test_a_project_may_wrap_or_replace_the_device_fixture(pytester, fake_devices, record):
    pytester.makepyfile(
        test_wrapped="""
        import pytest
        @pytest.fixture
        def device(device): return device.name.upper()
        def test_x(device): assert device == "RPI4"
        """,
        test_replaced="""
        import pytest
        @pytest.fixture(params=["cpu", "cuda"])
        def device(request): return request.param
        def test_x(device): assert device in ("cpu", "cuda")
        @pytest.mark.parametrize("device", ["tpu"])
        def test_y(device): assert device == "tpu"
        """,
    )
    fake_devices("--device=rpi4").assert_outcomes(passed=4)
    assert len(record("open")) == 1


def test_a_device_asked_for_at_run_time_is_the_only_selected_one(pytester, fake_devices):
    pytester.makepyfile("def test_x(request): assert request.getfixturevalue('device').name")
    fake_devices("--device=rpi4").assert_outcomes(passed=1)
    result = fake_devices("--device=rpi4,rpi5")
    assert "name the fixture in the test's arguments" in result.stdout.str()
    fake_devices().assert_outcomes(skipped=1)


def test_it_goes_with_other_parameters_and_classes(pytester, listed):
    pytester.makepyfile(
        """
        import pytest
        class TestIt:
            @pytest.mark.parametrize("n", [1, 2])
            def test_x(self, device, n): pass
        """
    )
    assert sorted(listed("--device=rpi4")) == ["TestIt::test_x[rpi4-1]", "TestIt::test_x[rpi4-2]"]


def test_the_profile_alone_starts_nothing(pytester, fake_devices, record):
    pytester.makepyfile("def test_x(device_profile): assert device_profile.cpu.cores == 4")
    fake_devices("--device=rpi4").assert_outcomes(passed=1)
    assert record("open") == []
