"""Time of the import, size on disk, and memory of a training run.

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

IMPORT = """
from time import perf_counter
start = perf_counter()
import numpy
between = perf_counter()
import {library}
print(between - start, perf_counter() - between)
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


def size(library: str) -> dict:
    """Bytes of the installed files, and of the same files compressed as a wheel is."""
    try:
        files = importlib.metadata.files(library) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise Missing(f"footprint: {library} is not installed") from error
    paths = [(str(file), Path(file.locate())) for file in files if file.suffix != ".pyc"]
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in paths:
            archive.write(path, name)
    return {"installed": sum(path.stat().st_size for _, path in paths), "wheel": wheel.getbuffer().nbytes}


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which starts with that of the parent process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(dtype: str, examples: int | None) -> dict:
    """One epoch of the case: bytes of X, which exists before it, and of θ, and the growth of the peak memory."""
    from dataclasses import replace

    import numpy as np
    from cases import initial, training_case
    from peers.with_nnkern import Side

    case = training_case(CASE)
    case = replace(case, examples=examples or case.examples)
    rng = np.random.default_rng(1)
    # Written once, without temporaries: what is resident now is the peak so far.
    X = rng.standard_normal((case.examples, case.n[0]), dtype=np.dtype(dtype)).T
    labels = rng.integers(0, case.n[-1], case.examples)
    before = peak_bytes()
    side = Side()
    side.prepare_training(case, dtype, 1, X, labels)
    side.load(initial(case))
    side.train(1)
    parameters = sum(array.nbytes for array in side.parameters().values())
    return {"X": X.nbytes, "parameters": parameters, "growth": peak_bytes() - before}


def run(session: Session) -> dict:
    progress("footprint")
    library = "nnkern"
    measured = {"import": import_seconds(library, 5 if session.quick else 20), "size": size(library)}
    options = {"dtype": session.dtype, "examples": 6400 if session.quick else None}
    # Windows has neither /proc nor resource.
    if sys.platform != "win32":
        measured["memory"] = json.loads(child(__file__, json.dumps(options)))
    return measured


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
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(json.dumps(memory(**json.loads(sys.argv[1]))))
