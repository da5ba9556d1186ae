"""What a device tried to reach: read from the packets its network card sent (pcap, by dpkt)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_harness.evidence import Figure, FigureKind, Verdict

#: UDP ports of the address assignment that a host does by itself: DHCP and DHCPv6.
_HOUSEKEEPING = frozenset({67, 68, 546, 547})


@dataclass(frozen=True, kw_only=True)
class Egress:
    """One thing the device tried to reach."""

    protocol: Literal["dns", "tcp", "udp"]
    host: str
    """The address the packet was for."""
    port: int
    name: str = ""
    """The name that was asked for (``dns``)."""

    def __str__(self) -> str:
        return f"{self.protocol} {self.name or self.host}:{self.port}"


def egress_in(pcap: Path) -> list[Egress]:
    """Attempts in the recording ``pcap``, each once, in the order of their first packet.

    Address assignment, neighbour discovery and answers are left out, and frames that are none: a
    device may send what it likes, and hides nothing by it. A recording that ends in the middle of
    a packet (the device was killed) counts up to there.
    """
    import dpkt

    found: dict[Egress, None] = {}
    if not pcap.exists() or pcap.stat().st_size < 24:
        return []
    with open(pcap, "rb") as file:
        try:
            for _, sent in dpkt.pcap.Reader(file):
                try:
                    attempt = _attempt(dpkt.ethernet.Ethernet(sent))
                except (dpkt.dpkt.Error, ValueError):
                    continue
                if attempt is not None:
                    found[attempt] = None
        except (dpkt.dpkt.Error, ValueError):
            pass
    return list(found)


def _attempt(frame: Any) -> Egress | None:
    import dpkt

    packet = frame.data
    if not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
        return None
    if frame.src[:1] != b"\x52" or frame.src[:3] == b"\x52\x55\x0a":
        return None  # from the emulated network to the device
    host = str(ipaddress.ip_address(packet.dst))
    part = packet.data
    if isinstance(part, dpkt.tcp.TCP):
        first = part.flags & dpkt.tcp.TH_SYN and not part.flags & dpkt.tcp.TH_ACK
        return Egress(protocol="tcp", host=host, port=part.dport) if first else None
    if not isinstance(part, dpkt.udp.UDP) or part.dport in _HOUSEKEEPING:
        return None
    if part.dport == 53:
        try:
            question = dpkt.dns.DNS(part.data).qd[0].name
        except (dpkt.dpkt.Error, IndexError, UnicodeDecodeError):
            question = ""
        return Egress(protocol="dns", host=host, port=53, name=question)
    return Egress(protocol="udp", host=host, port=part.dport)


def verdict_on(attempts: Sequence[Egress], *, kind: FigureKind, source: str) -> Verdict:
    """``passed`` where nothing was tried to be reached, else ``failed``; ``source`` says what the
    attempts were read from."""
    count = Figure(value=len(attempts), unit="attempts", kind=kind, source=source)
    if not attempts:
        return Verdict(word="passed", figures=(count,))
    tried = ", ".join(map(str, attempts))
    return Verdict(word="failed", reason=f"it tried to reach {tried}", figures=(count,))
