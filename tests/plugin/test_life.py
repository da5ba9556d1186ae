"""When devices start and end, and how often."""


def test_tests_share_a_device_that_starts_late_and_ends_with_the_run(
    pytester, fake_devices, record
):
    pytester.makepyfile(
        """
        from pathlib import Path
        def test_0(): assert not Path("record.txt").exists()
        def test_1(device): pass
        def test_2(device): pass
        """
    )
    fake_devices("--device=rpi4").assert_outcomes(passed=3)
    assert record("open") == ["open rpi4 host shared None"]
    assert record("close") == ["close rpi4"]


def test_a_fresh_device_is_of_one_test_alone(pytester, fake_devices, record):
    pytester.makepyfile("def test_1(fresh_device): pass\ndef test_2(fresh_device): assert 0")
    fake_devices("--device=rpi4").assert_outcomes(passed=1, failed=1)
    assert record("open") == ["open rpi4 host None None"] * 2
    assert record("close") == ["close rpi4"] * 2


def test_a_device_ends_before_the_next_one_starts(pytester, fake_devices, record):
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session")
        def model(device):
            yield device.name
            from conftest import record
            record(f"model of {device.name} closed")
        def test_1(device, model): pass
        def test_2(model): pass
        """
    )
    fake_devices("--device=rpi4,rpi5").assert_outcomes(passed=4)
    # pytest 7 tears such a fixture down and sets it up again between two tests.
    assert [
        line for line in dict.fromkeys(record("")) if not {"key", "runtimes"} & set(line.split())
    ] == [
        "open rpi4 host shared None",
        "model of rpi4 closed",
        "close rpi4",
        "open rpi5 host shared None",
        "model of rpi5 closed",
        "close rpi5",
    ]


def test_needs_do_not_split_a_device_where_one_engine_has_all(pytester, fake_devices, record):
    pytester.makepyfile(
        """
        import pytest
        def test_1(device): pass
        @pytest.mark.edge(needs="crash")
        def test_2(device): pass
        def test_3(device): pass
        """
    )
    fake_devices("--device=rpi4").assert_outcomes(passed=3)
    assert len(record("open")) == 1


def test_a_broken_device_is_tried_once_and_an_error_of_each_of_its_tests(
    pytester, fake_devices, record, monkeypatch
):
    monkeypatch.setenv("FAKE_BROKEN", "rpi4")
    pytester.makepyfile(
        """
        def test_1(device): pass
        def test_2(device): pass
        def test_3(fresh_device): pass
        def test_4(fresh_device): pass
        """
    )
    result = fake_devices("--device=rpi4,rpi5")
    result.assert_outcomes(passed=4, errors=4)
    opened = [line for line in record("open") if "rpi4" in line]
    assert opened == ["open rpi4 host shared None", "open rpi4 host None None"]
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_1?rpi4?*",
            "E   edge_harness.errors.BootFailed: rpi4 did not come up",
            "*next: look at its log",
            "ERROR *test_1?rpi4? - *BootFailed: rpi4*",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_support*")
    result.stdout.no_fnmatch_line("*entries are hidden*")


def test_interrupting_the_run_ends_its_devices(pytester, fake_devices, record):
    pytester.makepyfile(
        """
        def test_1(device): pass
        def test_2(device, fresh_device): raise KeyboardInterrupt
        """
    )
    result = fake_devices("--device=rpi4", subprocess=True)
    assert result.ret == 2
    assert record("close") == ["close rpi4"] * 2


def test_xdist_workers_share_a_key_that_other_runs_do_not_have(pytester, fake_devices, record):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("n", range(6))
        def test_x(device, n): pass
        """
    )
    for _ in range(2):
        fake_devices("--device=rpi4,rpi5", "-n2").assert_outcomes(passed=12)
    keys = record("key")
    assert len(keys) >= 4
    assert len(set(keys)) == 2
    assert len(record("close")) == len(record("open"))


def test_memory_is_passed_on_and_needs_an_engine_that_can_limit_it(pytester, fake_devices, record):
    pytester.makepyfile("def test_x(device): pass")
    result = fake_devices("--device=rpi4", "--edge-memory-mib=256", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*memory_limit*"])
    assert record("open") == []


def test_a_test_for_one_engine_is_skipped_on_another(pytester, fake_devices, record):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.edge(engine="docker")
        def test_docker(device): pass
        @pytest.mark.edge(engine="host")
        def test_host(device): pass
        """
    )
    result = fake_devices("--device=rpi4", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*for the docker engine, and this run is --engine=host*"])
    fake_devices("--device=rpi4", "--edge-strict").assert_outcomes(passed=1, errors=1)
