"""Runs commands of the command line in this process: fixtures for the modules that name it in pytest_plugins."""

import csv
import io
import re

import pytest

from nnkern import cli


def one_line(err):
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert re.match(r"nnkern( \w+)?: error: \S", err), err
    assert "Traceback" not in err
    return err


def rows(text):
    return list(csv.reader(io.StringIO(text)))


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs a command in this process, in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capfd.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def good(run):
    """Runs a command that must succeed, and gives what it printed."""

    def call(*arguments):
        status, out, err = run(*arguments)
        assert status == 0, err
        assert err == ""
        return out

    return call


@pytest.fixture
def bad(run):
    """Runs a command that must fail with status 2 and one line, and gives that line."""

    def call(*arguments):
        status, out, err = run(*arguments)
        assert status == 2
        assert out == ""
        return one_line(err)

    return call
