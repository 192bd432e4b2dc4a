"""Time of the import, size on disk, and memory: of nnkern, and of the libraries beside it.

Run as a script, this file is the child process whose memory is measured.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from sides import Missing, Session, SideError, environment, progress

CASE = "shuffled"  # X of 188 MB in float32
# By the side's name: what pip installs, what a user imports, and whether it trains.
LIBRARIES = {
    "nnkern": ("nnkern", "nnkern", True),
    "sklearn": ("scikit-learn", "sklearn.neural_network", True),
    "torch": ("torch", "torch", True),
    "jax": ("jax", "jax.numpy", True),
    "onnxruntime": ("onnxruntime", "onnxruntime", False),
    "openvino": ("openvino", "openvino", False),
}
# Packages for graphics processors, which a wheel may require and a CPU never uses.
FOR_GPUS = ("cuda", "nvidia", "triton")

IMPORT = """
from time import perf_counter
start = perf_counter()
import numpy
between = perf_counter()
import {library}
print(between - start, perf_counter() - between)
"""

WHOLE_IMPORT = """
import resource, sys, time
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before, start = resident(), time.perf_counter()
import {module}
print(time.perf_counter() - start, resident() - before)
"""


def child(*command: str) -> str:
    """The output of a fresh process of this interpreter."""
    # Callers pass -P, so that a folder nnkern in the current one isn't imported instead of the installed package.
    done = subprocess.run([sys.executable, *command], env=environment(1), capture_output=True, text=True)
    if done.returncode:
        raise SideError(f"footprint: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def import_seconds(library: str, repetitions: int) -> dict:
    """The best of several fresh processes; the first fills the system's file cache."""
    code = IMPORT.format(library=library)
    pairs = [tuple(map(float, child("-P", "-c", code).split())) for _ in range(repetitions + 1)]
    numpy, ours = zip(*pairs[1:], strict=True)
    return {"numpy": min(numpy), "over_numpy": min(ours), "rounds": ours}


def installed_files(library: str) -> list[tuple[str, Path]]:
    """Names and paths of what pip installed for it, without what Python compiled since."""
    try:
        files = importlib.metadata.files(library) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise Missing(f"footprint: {library} is not installed") from error
    paths = [(str(file), Path(file.locate())) for file in files if file.suffix != ".pyc"]
    return [(name, path) for name, path in paths if path.is_file()]


def size(library: str) -> dict:
    """Bytes of the installed files, and of the same files compressed as a wheel is."""
    paths = installed_files(library)
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in paths:
            archive.write(path, name)
    return {"installed": sum(path.stat().st_size for _, path in paths), "wheel": wheel.getbuffer().nbytes}


def required(library: str) -> set[str]:
    """The names of the library and of all that it requires, directly or not, without extras."""
    try:
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name
    except ImportError as error:
        raise Missing("footprint: what a library requires is read by packaging, which is not installed") from error
    done, todo = set(), [(canonicalize_name(library), "")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        for text in importlib.metadata.requires(name) or ():
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(one.name), more) for more in ("", *one.extras)]
    return {name for name, _ in done}


def on_disk(names: set[str]) -> dict:
    sizes = [path.stat().st_size for name in names for _, path in installed_files(name)]
    return {"packages": len(names), "bytes": sum(sizes), "files": len(sizes)}


def compare(sides: list[str], dtype: str, quick: bool) -> dict:
    """Of each library: its size on disk, alone and with all that it requires, and what its import takes.

    Rounds of the imports alternate between the libraries; the first fills the system's file cache and isn't counted.
    """
    rows = {}
    for side in sides:
        library, _, _ = LIBRARIES[side]
        names = required(library)
        without = {name for name in names if not name.startswith(FOR_GPUS)}
        rows[side] = {
            "alone": on_disk({library}),
            "with_required": on_disk(without),
            "for_gpus": on_disk(names - without),
        }
    if not Path("/proc/self/statm").exists():
        return rows
    rounds = {side: [] for side in sides}
    for _ in range(1 + (2 if quick else 12)):
        for side in sides:
            text = child("-P", "-c", WHOLE_IMPORT.format(module=LIBRARIES[side][1]))
            rounds[side].append(tuple(map(float, text.split())))
    for side in sides:
        seconds, resident = zip(*rounds[side][1:], strict=True)
        rows[side]["import"] = {"seconds": min(seconds), "resident": sorted(resident)[len(resident) // 2]}
        if LIBRARIES[side][2]:
            options = {"dtype": dtype, "examples": 6400 if quick else None, "side": side}
            rows[side]["memory"] = json.loads(child(__file__, json.dumps(options)))
    return rows


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which starts with that of the parent process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(dtype: str, examples: int | None, side: str = "nnkern") -> dict:
    """One epoch of the case: bytes of X, which exists before it, and of θ, and the growth of the peak memory."""
    from dataclasses import replace
    from importlib import import_module

    import numpy as np
    from cases import initial, training_case

    Side = import_module(f"peers.with_{side}").Side

    case = training_case(CASE)
    case = replace(case, examples=examples or case.examples)
    rng = np.random.default_rng(1)
    # Written once, without temporaries: what is resident now is the peak so far.
    X = rng.standard_normal((case.examples, case.n[0]), dtype=np.dtype(dtype)).T
    labels = rng.integers(0, case.n[-1], case.examples)
    before = peak_bytes()
    trained = Side()
    trained.prepare_training(case, dtype, 1, X, labels)
    trained.load(initial(case))
    trained.train(1)
    parameters = sum(array.nbytes for array in trained.parameters().values())
    return {"X": X.nbytes, "parameters": parameters, "growth": peak_bytes() - before}


def run(session: Session) -> dict:
    progress("footprint")
    library = "nnkern"
    measured = {"import": import_seconds(library, 5 if session.quick else 20), "size": size(library)}
    options = {"dtype": session.dtype, "examples": 6400 if session.quick else None}
    # Windows has neither /proc nor resource.
    if sys.platform != "win32":
        measured["memory"] = json.loads(child(__file__, json.dumps(options)))
    sides = [side for side in LIBRARIES if side in session.sides]
    if len(sides) > 1:
        measured["libraries"] = compare(sides, session.dtype, session.quick)
    return measured


def megabytes(count: float) -> str:
    return f"{count / 1e6:.{0 if count >= 1e8 else 1}f}"


def comparison(rows: dict) -> str:
    """A table in Markdown; times as multiples of nnkern's, which a busy machine disturbs less than the times."""
    heads = ["library", "MB alone", "files", "MB with what it requires", "files", "packages"]
    heads += ["for GPUs, MB more", "MB resident after import", "import time / nnkern's", "MB more while training"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    ours = rows.get("nnkern", {}).get("import")
    for side, row in rows.items():
        alone, all_of_it, gpus = row["alone"], row["with_required"], row["for_gpus"]
        cells = [LIBRARIES[side][0], megabytes(alone["bytes"]), alone["files"]]
        cells += [megabytes(all_of_it["bytes"]), all_of_it["files"], all_of_it["packages"]]
        cells += [megabytes(gpus["bytes"]) if gpus["packages"] else ""]
        if "import" in row:
            cells += [megabytes(row["import"]["resident"])]
            cells += [f"{row['import']['seconds'] / ours['seconds']:.1f}" if ours else ""]
            cells += [megabytes(row["memory"]["growth"]) if "memory" in row else ""]
        else:
            cells += [""] * 3
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def table(measured: dict) -> str:
    start, disk = measured["import"], measured["size"]
    lines = [
        f"import: {start['over_numpy'] * 1e3:.1f} ms over numpy's {start['numpy'] * 1e3:.0f} ms",
        f"size: wheel {disk['wheel'] / 1e6:.1f} MB, installed {disk['installed'] / 1e6:.1f} MB",
    ]
    if "memory" in measured:
        used = measured["memory"]
        lines.append(
            f"memory of a training: {used['growth'] / 1e6:.1f} MB at its peak beside numpy's X of "
            f"{used['X'] / 1e6:.0f} MB; the parameters are {used['parameters'] / 1e6:.2f} MB"
        )
    if "libraries" in measured:
        lines += ["", comparison(measured["libraries"])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(json.dumps(memory(**json.loads(sys.argv[1]))))
