"""Compiles the C for platforms other than this one, with the clang of the PyPI package `ziglang`: `make cross-check`.

Every warning is an error. Nothing is run; of the object code it is checked that products on aarch64 use its vectors.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = (
    "x86_64-linux-gnu",
    "aarch64-linux-gnu",
    "x86_64-linux-musl",
    "aarch64-linux-musl",
    "x86_64-windows-gnu",
    "aarch64-windows-gnu",
    "x86_64-macos",
    "aarch64-macos",
)
# clang's names for what setup.py asks gcc for: zig takes processors, not single extensions
ISAS = {"baseline": [], "avx2": ["-mcpu=x86_64_v3"], "avx512": ["-mcpu=x86_64_v4"]}
ISAS |= {"avx512_vnni": ["-mcpu=icelake_server"], "avx512_bf16": ["-mcpu=cooperlake"], "amx": ["-mcpu=sapphirerapids"]}
FLAGS = ["-std=c11", "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
# all but BLAS, whose headers a platform may lack
COMMON = ["kernels/dispatch.c", "kernels/facts.c", "kernels/sums.c", "runtime/pool.c", "runtime/system.c"]
# zig passes -c on even with -S
FLAGS += [f"-I{ROOT / 'src'}", "-Wall", "-Wextra", "-Werror", "-Wno-unused-command-line-argument"]


def compile_(target, source, flags, out, *, to_assembly=False):
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *FLAGS, *flags]
    command += ["-S" if to_assembly else "-c", str(source), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or done.stderr.strip():
        raise SystemExit(f"{target}: {source.name}\n{done.stderr}")


def main():
    with tempfile.TemporaryDirectory() as temporary:
        for target in TARGETS:
            x86, amx = target.startswith("x86_64"), target.startswith("x86_64-linux")
            sources = [(path, []) for path in COMMON]
            sources += [
                (f"kernels/isa_{isa}.c", flags)
                for isa, flags in ISAS.items()
                if {"baseline": True, "amx": amx}.get(isa, x86)
            ]
            for path, flags in sources:
                defines = ["-DNNK_X86"] * x86 + ["-DNNK_AMX"] * amx
                compile_(target, ROOT / "src" / path, flags + defines, Path(temporary) / "object.o")
            print(f"{target}: {', '.join(path for path, _ in sources)}", flush=True)
        assembly = Path(temporary) / "baseline.s"
        compile_("aarch64-linux-gnu", ROOT / "src" / "kernels" / "isa_baseline.c", [], assembly, to_assembly=True)
        text = assembly.read_text(encoding="utf-8")
        for lanes in ("4s", "2d"):
            count = sum("\tfmla\t" in line and f".{lanes}" in line for line in text.splitlines())
            if count == 0:
                raise SystemExit(f"aarch64: no multiply-add on vectors .{lanes}")
            print(f"aarch64-linux-gnu: {count} multiply-adds on vectors .{lanes}")


if __name__ == "__main__":
    main()
