"""Which refusal is deleted: asked by the package's copy, told by the plugin of pytest that is in here too.

After each test that passes it is run once more for each refusal that it got to and that no test has noticed the lack of
yet, in a fork of the process, without that refusal. Lines of REFUSALS_LOG say what was reached, and what was noticed.
"""

import os
import signal
import sys

SECONDS = 300  # that a test may take without a refusal


def kept(refusal):
    """Whether a raise is in its place. Notes that somebody got there."""
    if log := os.environ.get("REFUSALS_LOG"):
        _note(log, f"reached\t{refusal}\n")
    return refusal != os.environ.get("REFUSAL_DELETED")


def checked(refusal, call, value):
    """What a call that checks gives, or where it is left out the value. Notes that it has refused something."""
    if refusal == os.environ.get("REFUSAL_DELETED"):
        return value()
    try:
        return call()
    except Exception:
        kept(refusal)
        raise


def _note(log, line):
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)


_read, _noticed = 0, set()


def _newly_reached(log):
    """The refusals that were asked for since the last call."""
    global _read
    if not os.path.exists(log):
        return set()
    with open(log, "rb") as file:
        file.seek(_read)
        lines = file.read().decode().splitlines()
        _read = file.tell()
    return {line.partition("\t")[2] for line in lines if line.startswith("reached\t")}


def _notices(item, nextitem, refusal):
    """Whether the test fails without the refusal; a crash and an endless loop are failures too."""
    from _pytest.runner import runtestprotocol

    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            os.environ["REFUSAL_DELETED"] = refusal
            del os.environ["REFUSALS_LOG"]
            item._initrequest()
            status = int(not all(report.passed for report in runtestprotocol(item, nextitem=nextitem, log=False)))
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] != 0


def pytest_runtest_protocol(item, nextitem):
    from _pytest.runner import runtestprotocol

    log = os.environ["REFUSALS_LOG"]
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    reached = _newly_reached(log)
    if all(report.passed for report in reports):
        for refusal in sorted(reached - _noticed):
            if _notices(item, nextitem, refusal):
                _noticed.add(refusal)
                _note(log, f"noticed\t{refusal}\t{item.nodeid!r}\n")
    return True
