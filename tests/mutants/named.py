"""Changes that unit tests must notice, each made alone.

The first eleven are mistakes that would make a claim of ours wrong in silence; the others are of
the same kind, in places where a mistake costs a user most.
"""

from __future__ import annotations

from tests.mutants.tokens import Mutant

_ROOT = "harness/edge_harness/"


def _named(name: str, path: str, old: str, new: str) -> Mutant:
    return Mutant(path=_ROOT + path, line=0, old=old, new=new, name=name)


NAMED = (
    _named(
        "out-of-order window ignored",
        "clock/pipeline.py",
        "if len(retired) >= core.window:",
        "if False:",
    ),
    _named(
        "in-order issue not rounded up to a cycle",
        "clock/pipeline.py",
        "start = issue_at if start <= issue_at else float(-(-start // 1))",
        "pass",
    ),
    _named(
        "L2 misses free",
        "clock/cost.py",
        "waits = step.l1_misses * parameters.l1_miss_cycles + step.l2_misses * "
        "parameters.l2_miss_cycles",
        "waits = step.l1_misses * parameters.l1_miss_cycles",
    ),
    _named(
        "verdict failed at latency > budget",
        "clock/estimate.py",
        "if self.low_ms > budget_ms:",
        "if self.latency_ms > budget_ms:",
    ),
    _named(
        "a cluster's own cores counted as spare",
        "clock/trust.py",
        "spare = cluster.count - (own if cluster.core == profile.cpu.core else 0)",
        "spare = cluster.count",
    ),
    _named(
        "instruction bytes taken from the segment's start",
        "diagnose/core.py",
        'file.seek(segment["p_offset"] + inside)',
        'file.seek(segment["p_offset"])',
    ),
    _named(
        "first board that has it, newest first",
        "diagnose/explain.py",
        'return sorted(alike, key=lambda p: (p.cpu.isa, not p.name.startswith("rpi"), p.name))',
        "return sorted(alike, key=lambda p: (p.cpu.isa, p.name))[::-1]",
    ),
    _named(
        "exit 128+N not read as signal N",
        "diagnose/explain_end.py",
        "        return int(code) - 128\n",
        "        return number\n",
    ),
    _named(
        "SIGKILL after an OOM kill not recognised",
        "diagnose/explain_end.py",
        "number in (signal.SIGKILL, None)",
        "number in (None,)",
    ),
    _named(
        "std::bad_alloc not OOM",
        "diagnose/explain_end.py",
        'memory_sign(own) if number == signal.SIGABRT else ""',
        '""',
    ),
    _named(
        "a cause read from words that may be another worker's",
        "device/last_words.py",
        "alone=said.alone and not self._shared",
        "alone=True",
    ),
    _named(
        "an earlier test's words taken for a worker's last",
        "engines/log_mark.py",
        "                    file.seek(int(length))\n",
        "                    pass\n",
    ),
    _named(
        "NaN counted as 0 steps",
        "fidelity/distance.py",
        "        steps = math.inf\n    units",
        "        steps = 0.0\n    units",
    ),
    _named(
        "NaN in a report counted as 0 steps",
        "fidelity/measuring.py",
        "return _max(np.where(np.isnan(far), np.inf, far))",
        "return _max(np.where(np.isnan(far), 0.0, far))",
    ),
    # Diagnosis.
    _named(
        "the emulator's own core dump read as the program's",
        "diagnose/explain.py",
        'if (fault.machine == "EM_X86_64") != (profile.os.arch == "amd64"):',
        "if False:",
    ),
    _named(
        "an extension that the board has called missing",
        "diagnose/explain.py",
        "    if _has(profile, feature):\n        return None",
        "    if False:\n        return None",
    ),
    _named(
        "boards of other architectures taken for the first",
        "diagnose/explain.py",
        "alike = [p for p in same if not wide or p.os.arch == mine.os.arch]",
        "alike = list(profiles)",
    ),
    _named(
        "another process's OOM kill blamed for a segfault",
        "diagnose/explain_end.py",
        "if memory is not None and number in (signal.SIGKILL, None):",
        "if memory is not None:",
    ),
    _named(
        "a path of a core dump leads out of the device",
        "diagnose/device_files.py",
        "                found = found[:-1]\n",
        "                found.append(part)\n",
    ),
    _named(
        "UDF blamed on an extension",
        "diagnose/isa.py",
        "return word & 0xFFFF0000 == 0",
        "return False",
    ),
    _named(
        "one of two names in /proc/cpuinfo is enough",
        "diagnose/isa.py",
        "return set(feature.hwcaps) <= set(names)",
        "return bool(set(feature.hwcaps) & set(names))",
    ),
    _named(
        "the page size blamed on boards with 4 KiB pages",
        "diagnose/pages.py",
        "if page_size_kib == 4:",
        "if page_size_kib == 0:",
    ),
    _named(
        "an earlier program's bad_alloc explains a later abort",
        "diagnose/memory.py",
        "last = tail(said, _LAST_LINES)",
        "last = said",
    ),
    # Leases.
    _named(
        "another process of the same number taken for a holder",
        "device/lease.py",
        "process_start_time(int(pid)) == started",
        'process_start_time(int(pid)) != ""',
    ),
    _named(
        "a worker of a killed pytest goes on holding",
        "device/lease.py",
        "if _lives(path.name) and (not guardian or _lives(guardian)):",
        "if _lives(path.name):",
    ),
    _named(
        "a sweep ends devices that are held",
        "device/lease.py",
        "                if lease.living_holders():\n                    continue\n",
        "",
    ),
    _named(
        "a sweep waits for a device that is being started",
        "device/lease.py",
        "with lease.locked(wait=False):",
        "with lease.locked():",
    ),
    # The wire.
    _named(
        "a frame of any length is read into memory",
        "wire.py",
        "header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES",
        "header_bytes > MAX_HEADER_BYTES",
    ),
    _named(
        "a frame that ends early is taken for whole",
        "wire.py",
        "        if len(data) != count:\n",
        "        if False:\n",
    ),
)
