"""What a device tried to reach, as a verdict."""

from edge_harness.egress.packets import Egress, verdict_on


def test_nothing_tried_is_what_was_asked_for():
    found = verdict_on([], kind="emulated", source="the packets that rpi4 sent (vm)")
    assert (found.word, found.reason) == ("passed", "")
    (count,) = found.figures
    assert (count.value, count.unit, count.kind) == (0, "attempts", "emulated")
    assert count.source == "the packets that rpi4 sent (vm)"


def test_every_attempt_is_named():
    tried = [
        Egress(protocol="dns", host="10.0.2.3", port=53, name="example.org"),
        Egress(protocol="tcp", host="192.0.2.1", port=443),
    ]
    found = verdict_on(tried, kind="measured", source="a tap")
    assert str(found) == "failed: it tried to reach dns example.org:53, tcp 192.0.2.1:443"
    assert found.figures[0].value == 2
