"""Tolerances from the ini file and from marks."""

import pytest

SHOW = """
    import pytest
    from edge_harness.fidelity.tolerances import current
    pytestmark = pytest.mark.edge_fidelity(sqnr_db=30)
    def test_plain(device):
        assert (current().max_steps, current().sqnr_db, current().cosine) == (2, 30, 0.997)
    @pytest.mark.edge_fidelity(sqnr_db=35, cosine=0.9)
    def test_marked(device):
        assert (current().max_steps, current().sqnr_db, current().cosine) == (2, 35, 0.9)
"""


@pytest.mark.parametrize("words", [(), ("-n1",)])
def test_the_closest_of_ini_file_and_marks_counts(pytester, fake_devices, words):
    pytester.makeini("[pytest]\nedge_fidelity =\n    max_steps = 2\n    sqnr_db=25")
    pytester.makepyfile(SHOW)
    fake_devices("--device=rpi4", *words, subprocess=bool(words)).assert_outcomes(passed=2)


def test_a_wrong_ini_value_is_one_message(pytester, fake_devices):
    pytester.makeini("[pytest]\nedge_fidelity = max_step=2")
    pytester.makepyfile("def test_x(device): pass")
    result = fake_devices("--device=rpi4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: ini value edge_fidelity: there is no tolerance 'max_step'; did you mean*"]
    )


def test_a_wrong_mark_names_its_test(pytester, fake_devices):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.edge_fidelity(2)
        def test_x(device): pass
        """
    )
    result = fake_devices("--device=rpi4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*edge_fidelity on test_*::test_x*2 was given without a name*"])


def test_a_wrong_mark_fails_its_test_under_xdist(pytester, fake_devices):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.edge_fidelity(nope=2)
        def test_x(device): pass
        """
    )
    result = fake_devices("--device=rpi4", "-n1", subprocess=True)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*there is no tolerance 'nope'*"])
