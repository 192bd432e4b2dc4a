"""Equivalent mutants: changes that no test can notice since they change no result, read from equivalent_mutants.toml.

An entry is for all mutants of its file, function and line that put its replacement there:

    [[mutant]]
    file = "src/kernels/gemm.h"
    function = "pack_rows"        # in Python with its class, Network.fit; "" outside of functions
    line = "if (k < depth)"       # its text, or a part of it; "" for every line of the function
    replacement = "<="            # or a list of several; "pass" for a refusal that is deleted; "" for all
    reason = "what is beyond the depth is multiplied by zero"

An entry that matches no mutant any more is an error.
"""

import tomllib
from pathlib import Path

FILE = Path(__file__).with_name("equivalent_mutants.toml")
KEYS = {"file", "function", "line", "replacement", "reason"}


class Equivalents:
    """The entries, and which of them have matched."""

    def __init__(self, path=FILE):
        self.path = path
        self.entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
        for entry in self.entries:
            if set(entry) != KEYS or not entry["reason"]:
                raise SystemExit(f"{path.name}: an entry has {sorted(entry)}, not {sorted(KEYS)}, each once: {entry}")
        self.matched = set()

    def match(self, file, function, line, replacement):
        """The reason why a mutant is no other program; None where there is none."""
        reason = None
        for number, entry in enumerate(self.entries):
            news = entry["replacement"]
            news = [news] if isinstance(news, str) else news
            if (
                entry["file"] == file
                and entry["function"] == function
                and entry["line"] in line
                and ("" in news or replacement.strip() in news)
            ):
                self.matched.add(number)
                reason = entry["reason"]
        return reason

    def check(self, files):
        """Ends the program where an entry of these files, all of whose mutants were looked at, has matched none."""
        stale = [e for n, e in enumerate(self.entries) if e["file"] in files and n not in self.matched]
        if stale:
            listed = "\n".join(f"  {e['file']}: {e['function']}: {e['line']!r} -> {e['replacement']!r}" for e in stale)
            raise SystemExit(f"{self.path.name} has entries that match no mutant any more:\n{listed}")
