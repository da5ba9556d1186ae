"""Real emulated devices. Each test runs on every engine this machine has; where one is missing
the skip says why."""

from pathlib import Path

import numpy as np
import pytest
from edge_harness.device.lease import sweep
from edge_harness.engines.choose import choose_engine
from edge_harness.errors import EdgeError
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry

REPOSITORY = Path(__file__).parent.parent.parent
MODELS = REPOSITORY / "fixtures" / "models"


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_over():
    sweep()
    yield
    assert sweep() == 0, "a device outlived its tests"


@pytest.fixture(scope="session")
def open_on():
    """``open_on("rpi4", "user", **options)``: a device, or a skip that says why not."""

    def start(name, engine, **options):
        profile = default_registry().get(name)
        try:
            choose_engine(profile, engine)
        except EdgeError as error:
            pytest.skip(str(error))
        return open_device(profile, engine=engine, **options)

    return start


@pytest.fixture(scope="module")
def board(open_on):
    """A Raspberry Pi 4, for what is the same on every engine: on the one that needs least."""
    with open_on("rpi4", "user") as device:
        yield device


@pytest.fixture(scope="session", params=["user", "docker", "vm"])
def engine(request):
    return request.param


@pytest.fixture(scope="session")
def rpi4(open_on, engine):
    with open_on("rpi4", engine) as device:
        yield device


@pytest.fixture
def models():
    return MODELS


@pytest.fixture
def golden():
    def read(name):
        with np.load(REPOSITORY / "fixtures" / "golden" / f"{name}.npz") as data:
            return dict(data)

    return read
