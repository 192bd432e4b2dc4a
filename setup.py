"""Builds the compiled part of nnkern: which sources, which flags for which instruction set, which BLAS.

NNKERN_BLAS=openblas | accelerate | <pkg-config name>    another BLAS than the platform's default
NNKERN_DEBUG=1                                           no optimisation, assertions and symbols
NNKERN_SANITIZE=address,undefined                        gcc's or clang's sanitizers; `make sanitize` runs the tests so
NNKERN_COVERAGE=1                                        counts the lines that run, C and Cython: `make coverage`
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

if sys.platform == "darwin":
    # python.org's Python would compile for both of Apple's processors at once, whose instructions differ
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")

DEBUG = os.environ.get("NNKERN_DEBUG", "") not in ("", "0")
SOURCES = Path("src")

# gcc refuses pointers of other types from version 14 on: so that one finds out with any
COMPILE_ARGS = ["-std=c11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
COMPILE_ARGS += ["-Werror=incompatible-pointer-types"]
SANITIZE = os.environ.get("NNKERN_SANITIZE", "")
COVERAGE = os.environ.get("NNKERN_COVERAGE", "") not in ("", "0")

INSTRUMENTS = [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"] if SANITIZE else []
# threads count side by side; the seed makes all objects of a source one to gcov
INSTRUMENTS += ["--coverage", "-fprofile-update=atomic", "-frandom-seed=nnkern"] if COVERAGE else []
# numbers of lines alone where instrumented: to follow variables through such code takes gcc minutes
SYMBOLS = "-g1" if INSTRUMENTS else "-g"
COMPILE_ARGS += ["-O1", SYMBOLS, *INSTRUMENTS] if DEBUG or INSTRUMENTS else ["-O3", "-g0"]
COMPILE_ARGS += ["-UNDEBUG"] if DEBUG else ["-DNDEBUG"]
# a wheel's extensions need no names but those that Python looks for
LINK_ARGS = INSTRUMENTS if DEBUG or INSTRUMENTS or sys.platform != "linux" else ["-Wl,--strip-all"]

# Files of an earlier build are taken for this one's when no source is newer, whatever they were built with: each kind
# of build has a folder of its own.
KIND = [os.environ.get("NNKERN_BLAS", ""), DEBUG and "debug", SANITIZE.replace(",", "-"), COVERAGE and "coverage"]
BUILD = "-".join(["build/with", *filter(None, KIND)]) if any(KIND) else "build"

X86_ISAS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}
X86_ISAS["avx512_vnni"] = [*X86_ISAS["avx512"], "-mavx512vnni"]
X86_ISAS["avx512_bf16"] = [*X86_ISAS["avx512"], "-mavx512bf16"]
# a system gives the registers of tiles to who asks for them, each in its own way
if sys.platform == "linux":
    X86_ISAS["amx"] = [*X86_ISAS["avx512_vnni"], "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"]


CLANG_CL_TARGETS = {"win-amd64": "x86_64-pc-windows-msvc", "win-arm64": "aarch64-pc-windows-msvc"}


def is_x86():
    """Whether the target is x86-64; ARCHFLAGS tells on macOS, where the target may not be the machine."""
    flags = os.environ.get("ARCHFLAGS", "")
    if "-arch" in flags:
        return "x86_64" in flags and "arm64" not in flags
    return platform.machine().lower() in ("x86_64", "amd64")


def find_blas():
    """What the extensions need to call BLAS: macros, folders, link arguments, and a library to ship (or None)."""
    name = os.environ.get("NNKERN_BLAS") or ("accelerate" if sys.platform == "darwin" else "openblas")
    if name == "accelerate":
        return {
            "macros": [("NNK_BLAS_ACCELERATE", None), ("ACCELERATE_NEW_LAPACK", None)],
            "include_dirs": [],
            "library_dirs": [],
            "libraries": [],
            "link_args": ["-framework", "Accelerate"],
            "ship": None,
        }
    if name == "openblas":
        import scipy_openblas32 as openblas

        folder = Path(openblas.get_lib_dir())
        library = openblas.get_library()
        shared = [f for f in folder.iterdir() if library in f.name and (".so" in f.name or f.suffix == ".dll")]
        if len(shared) != 1:
            raise SystemExit(f"expected one shared library {library} in {folder}, found {shared}")
        return {
            "macros": [("NNK_BLAS_SCIPY_OPENBLAS", None)],
            "include_dirs": [openblas.get_include_dir()],
            "library_dirs": [str(folder)],
            "libraries": [library],
            "link_args": ["-Wl,-rpath,$ORIGIN/_libs"] if sys.platform == "linux" else [],
            "ship": shared[0],
        }

    def pkg_config(option):
        command = ["pkg-config", option, name]
        try:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"NNKERN_BLAS={name}: {' '.join(command)} failed: {error}") from error

    return {
        "macros": [("NNK_BLAS_CBLAS", f'"{name}"')],
        "include_dirs": [flag[2:] for flag in pkg_config("--cflags") if flag.startswith("-I")],
        "library_dirs": [],
        "libraries": [],
        "link_args": pkg_config("--libs"),
        "ship": None,
    }


class BuildExt(build_ext):
    """Compiles src/kernels/isa_*.c each with the flags of its instruction set, and ships the BLAS library."""

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            self.use_clang_cl()
        super().build_extensions()

    def use_clang_cl(self):
        """Microsoft's compiler has no vector types; clang-cl stands in for it, and the linker stays Microsoft's."""
        clang_cl = shutil.which("clang-cl")
        if clang_cl is None:
            raise SystemExit(
                "on Windows nnkern is compiled by clang-cl: install LLVM, and put its bin folder on the PATH"
            )
        self.compiler.initialize(self.plat_name)
        self.compiler.cc = clang_cl
        target = f"--target={CLANG_CL_TARGETS[self.plat_name]}"
        compile_with_cl = self.compiler.compile

        def compile_(sources, *args, extra_postargs=None, **kwargs):
            flags = [target, *(f"/clang:{flag}" for flag in extra_postargs or ())]
            return compile_with_cl(sources, *args, extra_postargs=flags, **kwargs)

        self.compiler.compile = compile_

    def build_extension(self, ext):
        if ext.name == "nnkern._products":
            macros = [("NNK_X86", None)] if is_x86() else []
            macros += [("NNK_AMX", None)] if is_x86() and "amx" in X86_ISAS else []
            isas = {"baseline": []} | (X86_ISAS if is_x86() else {})
            # side by side, since they are most of a build
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for objects in pool.map(lambda isa: self.compile_isa(*isa, ext.depends), isas.items()):
                    ext.extra_objects += objects
            ext.define_macros += macros
            self.ship(BLAS["ship"], Path(self.get_ext_fullpath(ext.name)).parent / "_libs")
        super().build_extension(ext)

    def compile_isa(self, isa, flags, depends):
        return self.compiler.compile(
            [str(SOURCES / "kernels" / f"isa_{isa}.c")],
            output_dir=self.build_temp,
            include_dirs=[str(SOURCES)],
            extra_postargs=[*COMPILE_ARGS, "-Wall", "-Wextra", "-Wno-psabi", *flags],
            depends=depends,
        )

    def ship(self, library, folder):
        """Puts the BLAS library and its licence beside the extensions."""
        if library is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, folder)
        if sys.platform == "linux" and not DEBUG and shutil.which("strip"):
            subprocess.run(["strip", "--strip-unneeded", str(folder / library.name)], check=True)
        for file in importlib.metadata.files("scipy-openblas32"):
            if file.name.startswith("LICENSE"):
                shutil.copy2(file.locate(), folder / f"OpenBLAS-{file.name}")


class BdistWheel(bdist_wheel):
    """Adds to a wheel's metadata what it holds of others' (PEP 770), in CycloneDX's form: the BLAS library."""

    def write_wheelfile(self, wheelfile_base, *args, **kwargs):
        super().write_wheelfile(wheelfile_base, *args, **kwargs)
        libraries = Path(self.bdist_dir) / "nnkern" / "_libs"
        # a wheel that is but a link to the sources ("editable") holds none
        if BLAS["ship"] is not None and libraries.is_dir():
            folder = Path(wheelfile_base) / "sboms"
            folder.mkdir(exist_ok=True)
            contents = json.dumps(self.bill_of_materials(libraries / BLAS["ship"].name), indent=1)
            (folder / "openblas.cdx.json").write_text(contents + "\n", encoding="utf-8")

    def bill_of_materials(self, library):
        version = importlib.metadata.version("scipy-openblas32")
        licence = next(library.parent.glob("OpenBLAS-LICENSE*")).read_text(encoding="utf-8")
        # OpenBLAS, and what is linked into it: pairs of lines in the text of its licences
        parts = re.findall(r"^Name: (.+?)$.*?^License: (\S+)$", licence, re.MULTILINE | re.DOTALL)
        components = [
            {"type": "library", "bom-ref": name, "name": name, "licenses": [{"license": {"id": spdx}}]}
            for name, spdx in parts or [("OpenBLAS", "BSD-3-Clause")]
        ]
        components[0] |= {
            "version": version,
            "purl": f"pkg:pypi/scipy-openblas32@{version}",
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(library.read_bytes()).hexdigest()}],
            "properties": [{"name": "file", "value": f"nnkern/_libs/{library.name}"}],
        }
        name = self.distribution.get_name()
        blas, *linked = [component["bom-ref"] for component in components]
        return {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "library",
                    "bom-ref": name,
                    "name": name,
                    "version": self.distribution.get_version(),
                }
            },
            "components": components,
            "dependencies": [{"ref": name, "dependsOn": [blas]}, {"ref": blas, "dependsOn": linked}],
        }


BLAS = find_blas()
HEADERS = sorted(str(f) for pattern in ("*.h", "*.def") for f in SOURCES.rglob(pattern))


# once for all instruction sets
KERNELS = ["kernels/dispatch.c", "kernels/facts.c", "kernels/sums.c"]
RUNTIME = ["runtime/blas.c", "runtime/pool.c", "runtime/system.c"]
# what each extension has a copy of: facts and the clock
SHARED = ["kernels/facts.c", "runtime/system.c"]


def extension(name, source, c_sources, calls_blas=False):
    blas = (
        BLAS if calls_blas else {"macros": [], "include_dirs": [], "library_dirs": [], "libraries": [], "link_args": []}
    )
    return Extension(
        f"nnkern.{name}",
        [str(SOURCES / source), *(str(SOURCES / c_source) for c_source in c_sources)],
        include_dirs=[str(SOURCES), numpy.get_include(), *blas["include_dirs"]],
        define_macros=blas["macros"]
        + [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
        + ([("NNK_DEBUG", None)] if DEBUG else []),
        extra_compile_args=COMPILE_ARGS,
        library_dirs=blas["library_dirs"],
        libraries=blas["libraries"],
        extra_link_args=blas["link_args"] + LINK_ARGS,
        depends=HEADERS,
    )


setup(
    ext_modules=cythonize(
        [
            extension("_products", "engine/products.pyx", [*KERNELS, *RUNTIME], calls_blas=True),
            extension("_kernels", "api/_kernels.pyx", SHARED),
            extension("_engine", "api/_engine.pyx", SHARED),
            extension("_predictor", "api/_predictor.pyx", []),
        ],
        include_path=[".", str(SOURCES)],
        build_dir=BUILD,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
    cmdclass={"bdist_wheel": BdistWheel, "build_ext": BuildExt},
    options={"build": {"build_base": BUILD}},
)
