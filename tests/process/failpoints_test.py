#!/usr/bin/env python3
"""A process crashes, and all stall, at every failpoint of runtime/base/failpoint.h: the bits stay, and nothing is left behind.

    MUSTER_BIN=build/bin tests/process/failpoints_test.py
"""

import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster  # noqa: E402

STEPS = 400
# A vote whose outcome one member has and another one has not, before the first one dies: microseconds, which no test meets at will. The
# simulation does (tests/sim).
BY_CHANCE = {"sync.redo"}
# At which pass to crash, where the first one comes before there is anything to lose: by the part of the name before the dot.
LATER = {"step": 50, "journal": 5, "checkpoint": 3}


def failpoints():
    header = (muster.ROOT / "runtime/base/failpoint.h").read_text()
    listed = header[header.index("kFailpoints[] = {"):header.index("};")]
    return re.findall(r'^    "([a-z_.]+)",', listed, re.MULTILINE)


class Failpoints(muster.JobTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        home = muster.Home()
        cls.expected = home.by_hand(muster.PACED, *cls.paced_arguments(STEPS))
        home.close()

    def run_job(self, plan, name, slow_until=None):
        """A job that passes all failpoints with that plan, to its end; the names of those that have acted. It hurries when `slow_until` has."""
        marks = self.home.root / f"marks-{name}"
        marks.mkdir()
        job = self.paced(STEPS, workers=2, ms=2, name=name, flags=("--checkpoint", self.home.root / f"points-{name}",
                                                                  "--checkpoint-every", 20),
                         environment={"MUSTER_FAILPOINTS": plan, "MUSTER_FAILPOINT_MARKS": str(marks), "MUSTER_JOIN": "flat"})
        job.wait_world(2)
        job.resize(3)
        job.wait_world(3)
        if slow_until:
            muster.wait_until((marks / slow_until).exists, 30, f"{slow_until} to act", job.explain)
        (self.home.root / "slow").unlink()
        self.assert_same_result(job.finished(), self.expected)
        self.assert_ledger(job)
        return {mark.name for mark in marks.iterdir()}

    def test_a_crash_at_each(self):
        for name in failpoints():
            with self.subTest(name):
                part = name.split(".")[0]
                # A checkpoint is skipped while the one before is being written, which takes longer than all steps of a job in a hurry.
                acted = self.run_job(f"{name}=crash@{LATER.get(part, 1)}", name.replace(".", "-").replace("_", "-"),
                                     slow_until=name if part == "checkpoint" else None)
                self.assertEqual(acted | (BY_CHANCE & {name}), {name})

    def test_a_stall_at_all_of_them(self):
        names = failpoints()
        acted = self.run_job(",".join(f"{name}=stall:0.1" for name in names), "stalls")
        self.assertEqual(acted | BY_CHANCE, set(names))

    def test_a_checkpoint_that_fails_is_told_and_the_next_one_is_written(self):
        for name in (name for name in failpoints() if name.startswith("checkpoint.")):
            with self.subTest(name):
                self.run_job(f"{name}=fail", name.replace(".", "-"))
                events = [event["message"] for event in self._jobs[-1].events() if event["kind"].startswith("checkpoint")]
                self.assertEqual(sum(f"failpoint {name}" in event for event in events), 1)
                self.assertTrue(events[-1].endswith(" written"), events)

    def test_a_typing_error_is_refused(self):
        for plan in ("no.such=crash", "step.voted", "step.voted=crush", "step.voted=stall:x", "step.voted=crash@0"):
            self.home.environment["MUSTER_FAILPOINTS"] = plan
            self.home.environment["MUSTER_FAILPOINT_MARKS"] = "/"
            with self.assertRaisesRegex(AssertionError, "ended with 2: MUSTER_FAILPOINTS: "):
                self.home.by_hand(muster.PACED, *self.paced_arguments(5))


if __name__ == "__main__":
    unittest.main()
