#!/usr/bin/env python3
"""Programs that misbehave: each gets a clear outcome, the right exit code, and soon.

    MUSTER_BIN=build/bin tests/process/programs_test.py
"""

import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster  # noqa: E402


class Program(muster.JobTest):
    def refused(self, program, *arguments, sentence):
        """Refused before anything is started: exit code 2, nothing on stdout, no job folder."""
        done = self.home.launcher("run", "--name", "job", "--workers", 2, "-y", "-o", "json", "--", program, *arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertIn(sentence, done.stderr)
        self.assertEqual(self.home.json("ps"), [])

    def failed(self, program, *arguments, code=3, within=8, workers=2, **options):
        """Fails soon with `code`; the finished object."""
        started = time.monotonic()
        job = self.job(program, arguments, workers=workers, **options)
        finished = job.finished(code=code, seconds=30)
        self.assertLess(time.monotonic() - started, within * muster.SCALE)
        self.assertEqual(finished["phase"], "failed")
        self.assertEqual(job.status()["phase"], "failed")
        self.assertIn(finished["message"], job.stderr())
        return finished

    def script(self, text, mode=0o755):
        path = self.home.work / "program.sh"
        path.write_text(text)
        path.chmod(mode)
        return path

    def test_that_is_not_there(self):
        self.refused("./nowhere", sentence="./nowhere: no such file")
        self.refused("digitz", sentence="did you mean digits?")

    def test_that_is_not_executable(self):
        self.refused(self.script("#!/bin/sh\n", mode=0o644), sentence="executable")

    def test_that_is_a_folder(self):
        self.refused(self.home.work, sentence="folder")

    def test_whose_interpreter_is_not_there(self):
        self.refused(self.script("#!/no/such/interpreter\n"), sentence="/no/such/interpreter")

    def test_that_is_neither_a_program_nor_a_script(self):
        self.refused(self.script("hello\n"), sentence="program.sh")

    def test_that_disappears_before_it_starts_again(self):
        # One worker: the shell of a second one might be about to open what the first one removes.
        path = self.script("#!/bin/sh\nrm -f \"$0\"; exit 1\n")
        finished = self.failed(path, code=2, workers=1)
        self.assertIn("program.sh", finished["message"])

    def test_that_is_another_one_for_some_workers(self):
        path = self.script(f"#!/bin/sh\n[ $MUSTER_WORKER_ID = w-0 ] && exec {muster.PACED} --seed 8\nexec {muster.PACED} --seed 7\n")
        finished = self.failed(path, code=2)
        self.assertRegex(finished["message"], "run different programs: seed (8, seed 7|7, seed 8)")

    def test_that_exits_with_0_without_joining(self):
        finished = self.failed("/bin/true")
        self.assertIn("without joining", finished["message"])

    def test_that_crashes_at_once(self):
        finished = self.failed("/bin/sh", "-c", "echo the disk is on fire >&2; exit 9")
        self.assertIn("exited with code 9, 5 times in a row", finished["message"])
        self.assertIn("the disk is on fire", finished["last_output"])
        self.assertIn(finished["failed_worker"], ("w-0", "w-1"))

    def test_that_crashes_at_the_same_step_again_and_again(self):
        """All workers do, so that each time the job begins again: steps done a second time are no progress."""
        finished = self.failed(muster.PACED, "--steps", 50, "--micro-batches", 4, environment={"PACED_CRASH_AT": "7"})
        self.assertIn("killed by signal 6, 5 times in a row", finished["message"])
        self.assertLessEqual(finished["step"], 7, "what was reported before the end, by heartbeats")

    def test_that_is_killed_by_a_signal_at_once(self):
        finished = self.failed("/bin/sh", "-c", "kill -SEGV $$")
        self.assertIn("killed by signal 11, 5 times in a row", finished["message"])

    def test_that_never_joins(self):
        """sleep inherits nothing of the runtime; the start times out and says who is missing."""
        finished = self.failed("/bin/sleep", "1000", code=4, flags=("--start-timeout-ms", 1500))
        self.assertIn("w-0", finished["message"])
        self.assertIn("has not joined", finished["message"])

    def test_that_leaves_children(self):
        """What a program starts and forgets ends with the job."""
        digits = muster.program_path("digits")
        job = self.job("/bin/sh", ("-c", f"setsid sleep 1000 & exec {digits} --steps 30"), workers=2)
        self.assertEqual(job.finished()["phase"], "succeeded")
        self.home.assert_nothing_left(seconds=1)

    def test_that_ignores_sigterm(self):
        digits = muster.program_path("digits")
        job = self.job("/bin/sh", ("-c", f"trap '' TERM INT HUP; {digits} --steps 1000000; sleep 1000"), workers=2)
        job.wait_step(5)
        job.stop("--now")
        job.finished(seconds=15)
        self.home.assert_nothing_left(seconds=1)

    def test_that_prints_megabytes(self):
        arguments = ("--steps", 100, "--micro-batches", 4)
        job = self.job(muster.PACED, arguments, workers=2, environment={"PACED_PRINT": "100000"})
        finished = job.finished()
        self.assertEqual(finished["weights"], self.home.by_hand(muster.PACED, *arguments)["weights"])
        logs = sum(path.stat().st_size for path in (job.folder / "logs").iterdir())
        self.assertLess(logs, 64 << 20)
        self.assertGreater(logs, 1 << 20)

    def test_that_prints_without_line_breaks_and_in_bytes_that_are_no_text(self):
        digits = muster.program_path("digits")
        job = self.job("/bin/sh", ("-c", f"head -c 3000000 /dev/zero; head -c 3000000 /dev/urandom >&2; "
                                         f"exec {digits} --steps 20"), workers=2)
        self.assertEqual(job.finished()["phase"], "succeeded")
        done = self.home.launcher("logs", job.name, "-o", "json")
        self.assertEqual(done.returncode, 0)

    def test_that_computes_nan(self):
        finished = self.failed(muster.PACED, "--steps", 50, "--micro-batches", 4, environment={"PACED_NAN_AT": "7"})
        self.assertIn("step 7", finished["message"])
        self.assertIn("NaN", finished["message"])

    def test_with_a_bad_flag_of_its_own(self):
        finished = self.failed("digits", "--steps", "0", code=2)
        self.assertIn("--steps must be from 1", finished["last_output"] + finished["message"])

    def test_whose_data_is_not_there_or_cannot_be_read(self):
        missing = self.failed("digits", "--data", "/no/such/folder", code=2)
        self.assertIn("/no/such/folder", missing["last_output"] + missing["message"])
        folder = self.home.work / "data"
        folder.mkdir()
        (folder / "digits.csv").write_text("1,2,three\n")
        bad = self.job("digits", ("--data", folder), workers=2, name="bad")
        code = bad.wait_exit(seconds=20)
        self.assertIn(code, (2, 3))
        finished = bad.objects()[-1]
        self.assertIn("digits.csv", finished["last_output"] + finished["message"])

    def test_with_more_workers_than_micro_batches(self):
        finished = self.failed("digits", "--micro-batches", 1, code=2)
        self.assertIn("2 workers are more than the 1 micro-batches", finished["message"])

    def test_that_differs_from_worker_to_worker(self):
        """Another number of steps on each worker: the job says so instead of training something."""
        digits = muster.program_path("digits")
        finished = self.failed("/bin/sh", "-c", f"exec {digits} --steps 3${{MUSTER_WORKER_ID#w-}}", code=2)
        self.assertIn("another program", finished["message"])


if __name__ == "__main__":
    unittest.main()
