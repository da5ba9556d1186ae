import pytest
from edge_harness.engines import Availability, Requirements, choose
from edge_harness.engines.abilities import ABILITIES, RunsNatively
from edge_harness.errors import (
    BrokenExtension,
    MissingAbility,
    MissingTool,
    OptionError,
)
from edge_harness.profiles import default_registry

RPI4 = default_registry().get("rpi4")


def machine_with(abilities):
    """A type of machine that has the methods for ``abilities`` and no others."""
    methods = {
        name: (lambda self, *_: None)
        for word in abilities
        for name in vars(ABILITIES[word].protocol)
        if not name.startswith("_")
    }
    return type("FakeMachine", (), methods)


class Fake:
    def __init__(self, name, rank, abilities, *, without=None, machine_type=None):
        self.name = name
        self.auto_rank = rank
        self.abilities = abilities
        self.without = without or {}
        self.machine_type = machine_type or machine_with(abilities or ())
        self.probes = 0

    def requirements(self, profile):
        return Requirements()

    def probe(self, profile):
        self.probes += 1
        return Availability(
            engine=self.name,
            available=self.abilities is not None,
            reason="no such thing here" if self.abilities is None else "fine",
            fix=f"install {self.name}",
            abilities=frozenset(self.abilities or ()),
            without=self.without,
        )


class NativeFake(Fake):
    def native_arch(self):
        return "amd64"


@pytest.fixture
def engines(monkeypatch):
    known = []
    broken = []

    def install(*fakes, errors=()):
        known[:] = sorted(fakes, key=lambda e: (e.auto_rank is None, e.auto_rank or 0))
        broken[:] = errors

    monkeypatch.setattr(choose, "working_engines", lambda: (list(known), list(broken)))
    monkeypatch.setattr(
        choose, "engine_named", lambda name: next(e for e in known if e.name == name)
    )
    return install


def test_the_engine_that_ranks_first_and_proves_enough_is_taken_and_says_why(engines):
    quick, slow = Fake("quick", 1, {"isa"}), Fake("slow", 2, {"isa", "memory_limit"})
    engines(slow, quick)
    choice = choose.choose_engine(RPI4)
    assert choice.engine.name == "quick"
    assert str(choice) == "engine quick (answers first; fine)"
    choice = choose.choose_engine(RPI4, needs=frozenset({"memory_limit"}))
    assert choice.engine.name == "slow"
    assert choice.why == "the first that proves memory_limit, which quick cannot"


def test_an_engine_that_is_asked_for_says_so_and_no_other_is_probed(engines):
    quick, slow = Fake("quick", 1, {"isa"}), Fake("slow", 2, {"isa"})
    engines(quick, slow)
    choice = choose.choose_engine(RPI4, "slow")
    assert (choice.engine.name, choice.why) == ("slow", "asked for")
    assert (quick.probes, slow.probes) == (0, 1)


def test_auto_passes_over_an_engine_that_is_for_request_alone(engines):
    engines(Fake("ours", None, {"crash"}))
    with pytest.raises(MissingTool, match="cannot run here"):
        choose.choose_engine(RPI4, needs=frozenset({"crash"}))
    assert choose.choose_engine(RPI4, "ours").engine.name == "ours"


def test_for_what_an_engine_itself_must_implement_all_are_looked_at(engines):
    engines(Fake("quick", 1, {"isa"}), NativeFake("ours", None, {"crash"}))
    assert choose.choose_engine(RPI4, implements=RunsNatively).engine.name == "ours"


def test_what_no_engine_proves_says_so_for_each_of_them_and_why(engines):
    engines(
        Fake("quick", 1, {"isa"}, without={"power_loss": "it has no plug"}), Fake("slow", 2, None)
    )
    with pytest.raises(
        MissingAbility,
        match=r"quick runs but cannot prove power_loss \(it has no plug\); slow: no such",
    ):
        choose.choose_engine(RPI4, needs=frozenset({"power_loss"}))


def test_an_engine_asked_for_by_name_is_not_replaced(engines):
    engines(Fake("quick", 1, {"isa"}), Fake("slow", 2, {"isa", "memory_limit"}))
    with pytest.raises(
        MissingAbility, match=r"^the engine quick cannot prove memory_limit for rpi4\n"
    ):
        choose.choose_engine(RPI4, "quick", frozenset({"memory_limit"}))


def test_a_broken_extension_is_named_only_where_nothing_else_runs(engines):
    error = BrokenExtension("the engine 'x' of y 1.0 is broken: gone", next_step="uninstall y")
    engines(Fake("quick", 1, {"isa"}), errors=[error])
    assert choose.choose_engine(RPI4).engine.name == "quick"
    engines(Fake("quick", 1, None), errors=[error])
    with pytest.raises(MissingTool, match=r"quick: no such thing here; the engine 'x' of y 1\.0"):
        choose.choose_engine(RPI4)


@pytest.mark.parametrize(
    ("claimed", "why"),
    [
        ({"pause"}, r"claims the ability 'pause', and FakeMachine has no pause, resume\(\)"),
        ({"levitation"}, "claims the ability 'levitation', and there is no such ability"),
    ],
)
def test_an_engine_is_held_to_its_word(engines, claimed, why):
    engines(Fake("boaster", 1, claimed, machine_type=machine_with({"isa"})))
    with pytest.raises(BrokenExtension, match=why):
        choose.choose_engine(RPI4, "boaster")


def test_an_engine_of_others_that_fails_or_boasts_does_not_keep_auto_from_the_next(engines):
    class Failing(Fake):
        def probe(self, profile):
            raise ZeroDivisionError("division by zero")

    boaster = Fake("boaster", 2, {"pause"}, machine_type=machine_with({"isa"}))
    engines(Failing("failing", 1, {"isa"}), boaster, Fake("quick", 3, {"isa"}))
    assert choose.choose_engine(RPI4).engine.name == "quick"
    with pytest.raises(BrokenExtension, match=r"'failing' cannot say .* ZeroDivisionError: div"):
        choose.choose_engine(RPI4, "failing")
    engines(Failing("failing", 1, {"isa"}))
    with pytest.raises(MissingTool, match="'failing' cannot say whether it runs here"):
        choose.choose_engine(RPI4)


def test_a_misspelt_ability_is_corrected():
    with pytest.raises(OptionError, match="did you mean 'memory_limit'"):
        choose.choose_engine(RPI4, needs=frozenset({"memory_limits"}))


def test_an_unknown_engine_lists_the_known():
    with pytest.raises(OptionError, match="no engine called 'kvm'") as error:
        choose.choose_engine(RPI4, "kvm")
    assert "user, docker, vm, host" in error.value.next_step


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "None and no Availability"),
        ({"figure_kind": "guessed"}, "figure_kind='guessed'"),
        ({"abilities": ["isa"]}, r"abilities=\['isa'\]"),
        ({"abilities": "isa"}, "abilities='isa'"),
        ({"abilities": frozenset({1})}, r"abilities=frozenset\(\{1\}\)"),
        ({"available": None, "reason": 3}, "available=None, reason=3"),
        ({"without": ["isa"]}, r"without=\['isa'\]"),
    ],
)
def test_an_engine_that_talks_nonsense_of_itself_is_refused_and_auto_goes_on(engines, said, why):
    class Odd(Fake):
        def probe(self, profile):
            facts = {"engine": self.name, "available": True, "reason": "fine"}
            return said and Availability(**{**facts, **said})

    engines(Odd("odd", 1, {"isa"}), Fake("quick", 2, {"isa"}))
    with pytest.raises(
        BrokenExtension, match=r"^the engine 'odd' is broken: probe\(\) gives " + why
    ):
        choose.choose_engine(RPI4, "odd", frozenset({"isa"}))
    assert choose.choose_engine(RPI4, needs=frozenset({"isa"})).engine.name == "quick"


def test_what_an_engine_asked_for_cannot_prove_is_said_of_it_and_not_of_all(engines):
    engines(Fake("quick", 1, {"isa"}, without={"pause": "it has no brake"}))
    with pytest.raises(MissingAbility) as seen:
        choose.choose_engine(RPI4, "quick", frozenset({"isa", "pause"}))
    assert seen.value.message == ("the engine quick cannot prove pause for rpi4 (it has no brake)")
