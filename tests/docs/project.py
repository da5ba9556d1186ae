"""A folder like that of somebody who reads the docs, in which a page's blocks are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from edge_harness.cli import main
from edge_harness.errors import EdgeError
from edge_harness.profiles import default_registry

from tests.docs.blocks import REPOSITORY, Block, Command, commands, file_for, missing_lines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODELS = {
    "classifier_int8.tflite": "digits_int8.tflite",
    "classifier_float.tflite": "digits_float.tflite",
    "model.tflite": "digits_int8.tflite",
    "add_float.onnx": "add_float.onnx",
}
_TIMEOUT_S = 300
#: Whose status tells about this machine, and not about the docs.
_ANY_STATUS = ("edge-harness doctor",)

SAMPLES = """
import numpy as np

with np.load("samples.npz") as data:
    images = [image[np.newaxis] for image in data["images"]]
with np.load("answers.npz") as data:
    labels, expected = data["labels"], data["expected"][:1]
image = images[0]
"""
FIXTURES = """
import docs_samples
import pytest

@pytest.fixture
def image(): return docs_samples.image

@pytest.fixture
def images(): return docs_samples.images

@pytest.fixture
def labels(): return docs_samples.labels

@pytest.fixture
def expected(): return docs_samples.expected

@pytest.fixture
def session(edge_device):
    with edge_device.load("classifier_int8.tflite") as session:
        yield session

@pytest.fixture
def outputs(session, image): return session.run(image)
"""
A_TEST = """
def test_it_loads(device):
    device.load("model.tflite").close()
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What running something came to."""

    printed: str
    problem: str = ""


class Project:
    """The folder, and what the page's blocks printed so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, source in MODELS.items():
            shutil.copy(REPOSITORY / "fixtures" / "models" / source, folder / name)
        with np.load(REPOSITORY / "fixtures" / "golden" / "digits_int8.npz") as data:
            np.savez(folder / "samples.npz", images=data["inputs"])
            np.savez(folder / "answers.npz", labels=data["labels"], expected=data["outputs"])
        (folder / "docs_samples.py").write_text(SAMPLES)
        (folder / "conftest.py").write_text(FIXTURES)
        (folder / "tests").mkdir()
        (folder / "tests" / "test_model.py").write_text(A_TEST)
        for name in ("boards", "my_profiles", "device_profiles"):
            (folder / name).mkdir()
        for name in ("examples", "fixtures", "Makefile", ".ci"):
            (folder / name).symlink_to(REPOSITORY / name)
        self._printed: dict[str, str] = {}

    # -- the kinds of blocks ---------------------------------------------------------------------

    def problems(self, blocks: Sequence[Block], *, on_device: bool) -> list[str]:
        """What is wrong with the blocks that need a device, or with those that need none."""
        found = []
        for block in blocks:  # before anything that may read it
            if block.file:
                path = self.folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
        found += self._python([b for b in blocks if b.kind == "python"], on_device=on_device)
        above = None
        for block in blocks:
            if block.kind == "output" and block.told("output of the block above") is not None:
                if above is not None and above.where in self._printed:
                    found += _differing(block, block.text.splitlines(), self._printed[above.where])
            elif block.kind in ("commands", "output"):
                if block.needs_device == on_device:
                    found += self._commands(block)
            elif not on_device:
                found += self._checked(block)
            above = block
        return found

    def _checked(self, block: Block) -> list[str]:
        try:
            if block.kind == "file":
                compile(block.text, block.where, "exec")
            elif block.kind == "data":
                self._data(block)
            elif block.kind == "excerpt":
                source = REPOSITORY / (block.told("in:") or "")
                return _differing(block, block.text.splitlines(), source.read_text())
            elif block.kind == "listing":
                firsts = [line.split()[0] for line in block.text.splitlines() if line[:1].strip()]
                lost = [first for first in firsts if not (REPOSITORY / first).exists()]
                return [f"{block.where}: there is no {', '.join(lost)}"] if lost else []
        except (EdgeError, OSError, SyntaxError, ValueError, ImportError) as error:
            return [f"{block.where}: {error}"]
        return []

    def _python(self, blocks: Sequence[Block], *, on_device: bool) -> list[str]:
        found, files = [], {}
        for block in blocks:
            if block.needs_device == on_device:
                name = f"test_line_{block.line}.py"
                try:
                    (self.folder / name).write_text(file_for(block))
                    files[name] = block
                except ValueError as error:
                    found.append(str(error))
        if not files:
            return found
        report = self.folder / "report.xml"
        selected = ["--edge-device=rpi4", "--edge-update-goldens"] if on_device else []
        options = ["-o", "junit_family=xunit1", "-o", "junit_logging=system-out"]
        ran = self.run(
            [sys.executable, "-m", "pytest", *files, *selected, *options, f"--junitxml={report}"]
        )
        if not report.exists():
            return [*found, f"pytest could not run the Python blocks:\n{ran.printed}"]
        seen = set()
        for case in ElementTree.parse(report).iter("testcase"):
            block = files[case.get("file", "")]
            seen.add(block.where)
            printed = case.findtext("system-out") or ""
            self._printed[block.where] = self._printed.get(block.where, "") + printed
            for bad in (*case.findall("failure"), *case.findall("error")):
                # Not of what the page says, but of this machine, which has no Docker.
                if "edge_harness.errors.MissingTool" not in (bad.text or ""):
                    found.append(f"{block.where}: {case.get('name')}: {bad.text}")
        return found + [f"{b.where}: has no test" for b in files.values() if b.where not in seen]

    def _commands(self, block: Block) -> list[str]:
        found = []
        printed = ""
        for command in commands(block):
            ran = self._command(command)
            printed += ran.printed
            if ran.problem:
                found.append(f"{block.where}: $ {command.line}\n{ran.problem}\n{ran.printed}")
            else:
                found += _differing(block, command.shown, ran.printed)
        self._printed[block.where] = printed
        return found

    def _data(self, block: Block) -> None:
        if block.language == "json":
            import json

            json.loads(block.text)
        elif block.language == "yaml":
            import yaml

            yaml.safe_load(block.text)
        elif block.language == "ini":
            self._ini(block, "pytest.ini")
        elif "[tool.pytest.ini_options]" in block.text:
            self._ini(block, "pyproject.toml")
        elif block.file and Path(block.file).parent.name == "device_profiles":
            default_registry(rootdir=self.folder).get(Path(block.file).stem)
        else:
            tomllib.loads(block.text)

    def _ini(self, block: Block, name: str) -> None:
        """Whether pytest and our plugin take it."""
        folder = self.folder / f"line_{block.line}"
        (folder / "boards").mkdir(parents=True)
        (folder / name).write_text(block.text)
        (folder / "test_it.py").write_text("def test_it(edge_device): pass\n")
        strictly = ["--strict-config", "--co", "-q", "--edge-device=rpi4"]
        ran = self.run([sys.executable, "-m", "pytest", *strictly], folder=folder)
        if ran.problem:
            raise ValueError(f"{ran.problem}\n{ran.printed}")

    # -- commands --------------------------------------------------------------------------------

    def _command(self, command: Command) -> Ran:
        words = command.words
        if words[0] == "cat" and command.shown and not (self.folder / words[1]).exists():
            # A file of the reader's own, shown.
            (self.folder / words[1]).write_text("\n".join(command.shown) + "\n")
        if command.checked_only:
            return self._only_checked(words)
        line = command.line
        if words[0] == "pytest" and not command.shown and "--co" not in words:
            line = f"{line.partition('#')[0].rstrip()} --co -q"
        ran = self.run(["bash", "-c", line])
        if command.shown or line.startswith(_ANY_STATUS):
            return Ran(printed=ran.printed)
        return ran

    def _only_checked(self, words: list[str]) -> Ran:
        """Whether the command would take these words."""
        if words[0] == "make":
            return self.run(["make", "--dry-run", *words[1:]])
        context = click.Context(main, info_name=words[0])
        command: click.Command = main
        rest = words[1:]
        try:
            while isinstance(command, click.Group):
                name = rest.pop(0)
                found = command.get_command(context, name)
                if found is None:
                    return Ran(printed="", problem=f"there is no command {name!r}")
                command = found
            command.make_context(command.name, rest, parent=context)
        except click.ClickException as error:
            return Ran(printed="", problem=error.format_message())
        return Ran(printed="")

    def run(self, words: list[str], *, folder: Path | None = None) -> Ran:
        """Run a command in the project, as a person's shell would."""
        ours = ("EDGE_DEVICE", "EDGE_ENGINE", "EDGE_STRICT", "EDGE_RUNTIME", "PYTEST_ADDOPTS")
        env = {name: value for name, value in os.environ.items() if name not in ours}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        env["COLUMNS"] = "200"
        env["NO_COLOR"] = "1"
        done = subprocess.run(
            words,
            cwd=folder or self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        problem = f"ended with status {done.returncode}" if done.returncode else ""
        return Ran(printed=done.stdout, problem=problem)


def _differing(block: Block, shown: Sequence[str], printed: str) -> list[str]:
    missing = missing_lines(list(shown), printed)
    if not missing:
        return []
    lines = "\n".join(f"  {line}" for line in missing)
    return [f"{block.where}: these lines are not printed any more:\n{lines}\nbut:\n{printed}"]
