"""Each word of ``needs=`` has a Protocol, and machines have exactly what they have methods for."""

import pytest
from edge_harness.engines import abilities, registry
from edge_harness.engines.abilities import (
    ABILITIES,
    HostTrouble,
    Instruments,
    KeepsImages,
    OpensShell,
    RunsNatively,
    TakesLayers,
    abilities_of,
    bound,
    word_of,
)
from edge_harness.engines.process_machine import ProcessMachine
from edge_harness.profiles import default_registry

WORDS = {
    *("isa", "numerics", "crash", "offline", "rootfs", "cpu_quota", "memory_limit", "kernel"),
    *("page_size", "power_loss", "reboot", "memory", "storage_faults", "clock", "cpu_throttle"),
    *("network", "pause"),
}
OF_A_PROCESS = {"crash"}
IN_NAMESPACES = OF_A_PROCESS | {"isa", "numerics", "offline", "rootfs"}
IN_A_CONTAINER = IN_NAMESPACES | {"cpu_quota", "memory_limit"}
CLAIMS = {
    "user": IN_NAMESPACES,
    "docker": IN_A_CONTAINER,
    "vm": WORDS,
    "host": OF_A_PROCESS,
}


def test_the_words_are_those_that_tests_and_documents_use():
    assert set(ABILITIES) == WORDS
    assert all(each.meaning for each in ABILITIES.values())


def test_each_word_has_a_protocol_of_its_own_with_methods():
    protocols = [each.protocol for each in ABILITIES.values()]
    assert len(set(protocols)) == len(WORDS)
    for word, each in ABILITIES.items():
        assert word_of(each.protocol) == word
        assert each.missing_in(object), f"{word} asks for no method: every machine would have it"


@pytest.mark.parametrize("engine", CLAIMS)
def test_a_built_in_machine_has_the_abilities_it_has_methods_for(engine):
    assert abilities_of(registry.engine_named(engine).machine_type) == CLAIMS[engine]


def test_every_engine_has_a_row_above():
    assert set(CLAIMS) == set(registry.engine_names())


@pytest.mark.parametrize("engine", CLAIMS)
def test_a_probe_claims_nothing_that_the_machine_has_no_methods_for(engine):
    built_in = registry.engine_named(engine)
    seen = built_in.probe(default_registry().get("rpi4"))
    assert seen.abilities <= abilities_of(built_in.machine_type)
    assert not seen.abilities & seen.without.keys()


def test_only_what_has_all_of_a_protocols_methods_is_bound_by_it(tmp_path):
    machine = ProcessMachine({"engine": "host", "state_dir": str(tmp_path)})
    assert bound(machine, abilities.Crashes) is machine
    assert bound(machine, abilities.Pause) is None

    class Half:
        def pause(self):
            pass

    assert bound(Half(), abilities.Pause) is None
    assert ABILITIES["pause"].missing_in(Half) == ["resume"]


@pytest.mark.parametrize(
    ("protocol", "who"),
    [
        (OpensShell, {"user", "docker", "vm"}),
        (Instruments, {"vm"}),
        (RunsNatively, {"host"}),
        (KeepsImages, {"docker"}),
    ],
)
def test_which_engines_do_what_no_test_asks_for(protocol, who):
    engines, _ = registry.working_engines()
    assert {each.name for each in engines if bound(each, protocol) is not None} == who


@pytest.mark.parametrize(
    ("protocol", "who"), [(TakesLayers, {"docker", "vm"}), (HostTrouble, {"vm"})]
)
def test_which_machines_do_what_no_test_asks_for(protocol, who):
    wanted = [name for name in vars(protocol) if not name.startswith("_")]
    assert {
        name
        for name in CLAIMS
        if all(hasattr(registry.engine_named(name).machine_type, each) for each in wanted)
    } == who
