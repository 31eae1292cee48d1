#!/usr/bin/env python3
"""Runs the end-to-end tests, and those that failed beside others once more alone: scripts/e2e.py [ARGUMENT...]

The arguments go to the test program: --skip soak::soak.

A machine may stand still for seconds, and four tests at a time feel each other. A test that fails in such a moment and
passes alone is not proof of a defect of the program; it is one of the test, or of something that a test on a quiet
machine does not show. So it does not fail the build, and it does not go unseen either: its name is the last thing that
this prints, and its first output is kept in target/e2e/.

What fails again, fails. So does a run that crashed, took too long, failed in more than a handful of tests, or did not
say which ones failed. The soak is no part of this: what it finds is never a coincidence.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

# With more failures than these something else is wrong.
MOST = 5
# Seconds. All tests take some fifteen minutes on a quiet machine with two cores, the longest test alone three.
LONGEST_RUN = 3600
LONGEST_TEST = 900
CARGO = ["cargo", "test", "--locked", "--features", "faults", "--test", "e2e", "--"]
KEPT = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "e2e"
# What cargo says when tests have failed; also when nothing could be compiled.
FAILED = 101


class Unreadable(Exception):
    """The output does not say which tests failed."""


def failed_tests(output):
    """The names of the tests that failed, as the end of the output lists them."""
    summaries = re.findall(r"^test result: FAILED\. \d+ passed; (\d+) failed;", output, re.MULTILINE)
    lists = re.findall(r"^failures:\n((?:    \S+\n)+)\n?test result: FAILED\.", output, re.MULTILINE)
    if len(summaries) != 1 or len(lists) != 1:
        raise Unreadable("it does not end as a run with failures does")
    names = lists[0].split()
    if len(set(names)) != len(names) or len(names) != int(summaries[0]):
        raise Unreadable(f"{summaries[0]} tests failed, {len(names)} are named")
    return names


def said_by(name, output):
    """What a test that failed has said."""
    found = re.search(rf"^---- {re.escape(name)} stdout ----\n(.*?)(?=^---- \S+ stdout ----$|^failures:$)", output, re.MULTILINE | re.DOTALL)
    return found[1] if found else "It said nothing.\n"


def has_passed_alone(name, code, output):
    """Whether this one test has run, and passed."""
    summaries = re.findall(r"^test result: (\w+)\. (\d+) passed; (\d+) failed;", output, re.MULTILINE)
    return code == 0 and summaries == [("ok", "1", "0")]


def run(arguments, longest, environment):
    """Runs a command to its end, showing what it says. Returns its exit code, None when it took too long, and that."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment, start_new_session=True, text=True, errors="replace")
    overdue = threading.Event()

    def end():
        overdue.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(longest, end)
    timer.start()
    lines = []
    try:
        with process.stdout:
            for line in process.stdout:
                lines.append(line)
                print(line, end="", flush=True)
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        timer.cancel()
    return (None if overdue.is_set() else code), "".join(lines)


def main(arguments):
    environment = dict(os.environ)
    environment.setdefault("RUST_TEST_THREADS", "4")
    code, output = run(CARGO + arguments, LONGEST_RUN, environment)
    if code == 0:
        return 0
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "output").write_text(output)
    if code != FAILED:
        return give_up("the tests took too long" if code is None else f"the tests ended with {code}")
    try:
        names = failed_tests(output)
    except Unreadable as why:
        return give_up(f"nobody knows which tests failed: {why}")
    for name in names:
        (KEPT / f"{name.replace('::', '-')}.txt").write_text(said_by(name, output))
    if len(names) > MOST:
        return give_up(f"{len(names)} tests failed")
    again = []
    for name in names:
        print(f"\n{name} failed beside others: once more, alone", flush=True)
        alone = ["--exact", name, "--test-threads=1", "--nocapture"]
        code, output = run(CARGO + alone, LONGEST_TEST, environment)
        if not has_passed_alone(name, code, output):
            again.append(name)
    lucky = [name for name in names if name not in again]
    if lucky:
        print("\n==== failed beside others, passed alone: to be looked into ====")
        for name in lucky:
            print(f"    {name}: {KEPT / name.replace('::', '-')}.txt")
    if again:
        return give_up("failed beside others and alone: " + ", ".join(again))
    return 0


def give_up(why):
    print(f"\nend-to-end tests: {why}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
