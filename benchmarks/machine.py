"""Describes the machine, for the JSON."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from sides import cores


def cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """{"L1 Data": "32K", ...} of the first processor."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        found[f"L{level} {kind}"] = size
    return found


def vectors() -> list[str]:
    """The vector instructions of the processor, as the system names them."""
    try:
        found = re.search(r"^flags\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        return []
    wanted = re.compile(r"amx|avx|fma|sse4|neon|asimd|sve")
    return [flag for flag in found[1].split() if wanted.match(flag)] if found else []


def describe() -> dict:
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "caches": caches(),
        "vectors": vectors(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }
