import pytest
from edge_harness.engines import Availability, choose
from edge_harness.errors import MissingCapability, MissingTool, OptionError
from edge_harness.profiles import default_registry

RPI4 = default_registry().get("rpi4")


class Fake:
    def __init__(self, name, capabilities, fix=""):
        self.name = name
        self.capabilities = capabilities
        self.fix = fix

    def probe(self, profile):
        return Availability(
            engine=self.name,
            available=self.capabilities is not None,
            reason="no such thing here" if self.capabilities is None else "fine",
            fix=self.fix,
            capabilities=frozenset(self.capabilities or ()),
        )


@pytest.fixture
def engines(monkeypatch):
    known = {}
    monkeypatch.setattr(choose, "engine_named", known.__getitem__)

    def install(**capabilities):
        for name in ("user", "docker", "vm", "host"):
            known[name] = Fake(name, capabilities.get(name), fix=f"install {name}")

    return install


def test_the_cheapest_engine_that_proves_enough_is_taken(engines):
    engines(user={"isa"}, docker={"isa", "memory_limit"})
    assert choose.choose_engine(RPI4)[0].name == "user"
    assert choose.choose_engine(RPI4, needs=frozenset({"memory_limit"}))[0].name == "docker"


def test_auto_never_falls_back_on_the_hosts_own_processor(engines):
    engines(host={"crash"})
    with pytest.raises(MissingTool, match="no such thing here"):
        choose.choose_engine(RPI4, needs=frozenset({"crash"}))


def test_what_no_engine_proves_says_so_for_each_of_them(engines):
    engines(user={"isa"})
    with pytest.raises(
        MissingCapability, match=r"user runs but cannot prove power_loss.*docker: no"
    ):
        choose.choose_engine(RPI4, needs=frozenset({"power_loss"}))


def test_an_engine_asked_for_by_name_is_not_replaced(engines):
    engines(user={"isa"}, docker={"isa", "memory_limit"})
    with pytest.raises(MissingCapability, match="user runs but cannot prove memory_limit"):
        choose.choose_engine(RPI4, "user", frozenset({"memory_limit"}))


def test_a_misspelt_capability_is_corrected():
    with pytest.raises(OptionError, match="did you mean 'memory_limit'"):
        choose.choose_engine(RPI4, needs=frozenset({"memory_limits"}))


def test_an_unknown_engine_lists_the_known():
    with pytest.raises(OptionError, match="no engine called 'kvm'") as error:
        choose.choose_engine(RPI4, "kvm")
    assert "user, docker, vm, host" in error.value.next_step
