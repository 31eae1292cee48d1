#!/usr/bin/env python3
"""Tries scripts/e2e.py on what a test program says, and with programs that end badly."""

import contextlib
import io
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
import e2e

BAD = """
running 4 tests
test cancel::a_waiting_task_never_starts ... ok
test stream::ends ... FAILED
test rules::fences::zombie ... FAILED
test dev::start ... ok

failures:

---- stream::ends stdout ----
--- 'app serve', process 7
failures: this is a line of a log

---- rules::fences::zombie stdout ----
thread panicked: it took 3 s


failures:
    rules::fences::zombie
    stream::ends

test result: FAILED. 2 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.21s

"""
GOOD = "running 1 test\ntest stream::ends ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s\n"
NONE = GOOD.replace("1 passed", "0 passed")


class Reading(unittest.TestCase):
    def test_names_are_those_of_the_list_at_the_end(self):
        self.assertEqual(e2e.failed_tests(BAD), ["rules::fences::zombie", "stream::ends"])

    def test_each_has_its_own_output(self):
        self.assertIn("a line of a log", e2e.said_by("stream::ends", BAD))
        self.assertNotIn("3 s", e2e.said_by("stream::ends", BAD))
        self.assertIn("it took 3 s", e2e.said_by("rules::fences::zombie", BAD))

    def test_what_cannot_be_read_is_not_guessed(self):
        for broken in [
            "",
            GOOD,
            BAD[:-120],
            BAD.replace("2 failed", "3 failed"),
            BAD.replace("    stream::ends\n", ""),
            BAD.replace("    stream::ends\n", "    rules::fences::zombie\n"),
            BAD + BAD,
            "error: could not compile `longrun` (test \"e2e\") due to 1 previous error\n",
        ]:
            with self.assertRaises(e2e.Unreadable):
                e2e.failed_tests(broken)

    def test_alone_it_must_have_run(self):
        self.assertTrue(e2e.has_passed_alone("x", 0, GOOD))
        for code, output in [(101, GOOD), (0, NONE), (0, ""), (0, BAD), (None, GOOD)]:
            self.assertFalse(e2e.has_passed_alone("x", code, output))


class Running(unittest.TestCase):
    """With a shell script in place of cargo: the first run and those of single tests are told apart by --exact."""

    def ends_with(self, first, code, alone=GOOD, alone_code=0, longest=60):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "first").write_text(first)
            (folder / "alone").write_text(alone)
            script = f'case "$*" in *--exact*) cat {folder}/alone; exit {alone_code};; *) cat {folder}/first; {code};; esac'
            e2e.CARGO, e2e.KEPT, e2e.LONGEST_RUN = ["sh", "-c", script, "sh"], folder / "kept", longest
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                status = e2e.main([])
            kept = sorted(os.listdir(folder / "kept")) if (folder / "kept").exists() else []
            return status, said.getvalue(), kept

    def test_what_passes_alone_is_told_at_the_end(self):
        status, said, kept = self.ends_with(BAD, "exit 101")
        self.assertEqual(status, 0)
        told = said.split("to be looked into")[1]
        self.assertTrue("stream::ends" in told and "rules::fences::zombie" in told, said)
        self.assertEqual(kept, ["output", "rules-fences-zombie.txt", "stream-ends.txt"])

    def test_what_fails_again_fails(self):
        status, said, _ = self.ends_with(BAD, "exit 101", BAD, 101)
        self.assertEqual(status, 1)
        self.assertIn("failed beside others and alone: rules::fences::zombie, stream::ends", said)
        self.assertEqual(self.ends_with(BAD, "exit 101", NONE)[0], 1)

    def test_everything_else_that_is_not_well_fails(self):
        self.assertEqual(self.ends_with(GOOD, "exit 0")[0], 0)
        self.assertEqual(self.ends_with("error: could not compile\n", "exit 101")[0], 1)
        self.assertEqual(self.ends_with(BAD, "exit 1")[0], 1)
        self.assertEqual(self.ends_with(BAD, "kill -ABRT $$")[0], 1)
        status, said, _ = self.ends_with(BAD, "exec sleep 600", longest=2)
        self.assertEqual(status, 1)
        self.assertIn("the tests took too long", said)
        names = [f"many::test_{number}" for number in range(6)]
        many = "failures:\n" + "".join(f"    {name}\n" for name in names) + "\ntest result: FAILED. 0 passed; 6 failed;\n"
        status, said, _ = self.ends_with(many, "exit 101")
        self.assertEqual(status, 1)
        self.assertIn("6 tests failed", said)


if __name__ == "__main__":
    unittest.main()
