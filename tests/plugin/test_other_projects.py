"""``harness/`` in somebody else's project, and another distribution of that name, harm nobody; and
what of ours is installed is one package."""

import ast
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def project(pytester):
    """A project with folders of our names, each with contents of its own."""
    for name in ("harness", "fixtures", "examples"):
        (pytester.mkpydir(name) / "mine.py").write_text(f"NAME = {name!r}\n")
    (pytester.path / "fixtures" / "architectures.py").write_text("raise ImportError('not this')\n")
    (pytester.path / "harness" / "plugin.py").write_text("raise ImportError('not this')\n")
    (pytester.path / "device_profiles").mkdir()
    (pytester.path / "device_profiles" / "README").write_text("not ours\n")
    return pytester


def test_a_project_with_folders_of_our_names_gets_its_own(project, fake_devices):
    project.makepyfile(
        """
        import edge_harness
        import examples.mine, fixtures.mine, harness.mine
        from pathlib import Path

        HERE = Path(__file__).parent

        def test_theirs_and_ours(device):
            for module in (examples.mine, fixtures.mine, harness.mine):
                assert Path(module.__file__).parent.parent == HERE
            assert not hasattr(harness, "plugin")
            assert HERE not in Path(edge_harness.__file__).parents
            assert device.name == "rpi4"
        """
    )
    project.syspathinsert()
    for words in ((), ("-n2",)):
        fake_devices("--device=rpi4", *words, subprocess=True).assert_outcomes(passed=1)


def test_nothing_of_ours_imports_a_top_level_package_of_the_repository():
    """``fixtures`` in the folder of somebody's project would answer."""
    ours = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - {"harness"}
    for file in (REPOSITORY / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] not in ours | {"harness"}, f"{file}: {name}"


# -- what is installed -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist, built from this tree."""
    pytest.importorskip("hatchling", reason="hatchling is missing: pip install -e .[test]")
    folder = tmp_path_factory.mktemp("dist")
    for target in ("wheel", "sdist"):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            env={k: v for k, v in os.environ.items() if k != "EDGE_HARNESS_PREBUILT"},
        )
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_is_one_package(built):
    with zipfile.ZipFile(built[0]) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edge_harness"}
    assert not [name for name in names if name.endswith((".pyc", ".so")) or "/tests/" in name]
    for wanted in (
        "edge_harness/py.typed",
        "edge_harness/_device_profiles/rpi4.toml",
        "edge_harness/agent/main.py",
        "edge_harness/clock/plugin/edge_clock.c",
        "edge_harness/clock/cores/cortex-a72.toml",
        "edge_harness/clock/data/published_latency.csv",
    ):
        assert wanted in names
    sources = {
        str(path.relative_to(REPOSITORY / "harness"))
        for path in (REPOSITORY / "harness" / "edge_harness").rglob("*.py")
    }
    assert sources <= set(names)


def test_the_sdist_has_what_make_rpi4_needs(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    needed = {name for name in tracked if not name.startswith((".git", "tests/published"))}
    assert {"Makefile", ".ci/rpi4", ".ci/bootstrap", "pyproject.toml", "README.md"} <= names
    assert not sorted(needed - names)


def test_the_wheel_works_beside_another_distribution_called_harness(built, tmp_path):
    environment = tmp_path / "venv"
    venv.create(environment, system_site_packages=False, with_pip=False)
    site = next(environment.glob("lib/python*/site-packages"))
    # What ours needs, from where this Python has it; ours itself only from the wheel.
    (site / "needed.pth").write_text("\n".join(p for p in sys.path if "site-packages" in p) + "\n")
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(site)
    for name in ("harness", "fixtures"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("NAME = 'theirs'\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_it.py").write_text(
        "import harness, fixtures\n"
        "import edge_harness\n"
        "from edge_harness.clock.calibrate import measurements\n"
        "def test_it(edge_device_profile):\n"
        "    assert harness.NAME == fixtures.NAME == 'theirs'\n"
        f"    assert edge_harness.__file__.startswith({str(site)!r})\n"
        "    assert edge_device_profile.name == 'rpi4'\n"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [
            *(environment / "bin" / "python", "-m", "pytest", "-p", "edge_harness.plugin"),
            *("-p", "no:cacheprovider", "--edge-device=rpi4", "-q"),
        ],
        cwd=project,
        env={**env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
