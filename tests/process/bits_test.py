#!/usr/bin/env python3
"""The bits of a run depend on the program, its seed and its data: not on how many workers there were and what befell them.

    MUSTER_BIN=build/bin tests/process/bits_test.py [BitsOfDigits.test_...]
"""

import os
import pathlib
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster  # noqa: E402


class BitsOfDigits(muster.JobTest):
    def run_with(self, workers, arguments, flags=(), program="digits", name="job"):
        job = self.job(program, arguments, workers=workers, flags=flags, name=f"{name}-{workers}")
        finished = job.finished()
        self.assertEqual(finished["phase"], "succeeded")
        self.assert_steps_never_go_down(job)
        self.assert_ledger(job)
        return finished

    def test_are_the_same_for_every_number_of_workers(self):
        arguments = ("--steps", 60, "--seed", self.random.randrange(1 << 30), "--batch-size", 8)
        expected = self.home.by_hand("digits", *arguments)
        self.assertEqual(expected["samples_consumed"], 60 * 16 * 8)
        for workers in (1, 2, 3, 4, 5, 8):
            with self.subTest(workers=workers):
                finished = self.run_with(workers, arguments)
                self.assert_same_result(finished, expected)
                self.assertEqual(finished["metrics"], expected["metrics"])

    def test_are_the_same_for_odd_shapes(self):
        for micro_batches, batch_size, workers in ((7, 3, 5), (3, 1, 3), (1, 40, 1), (13, 111, 4)):
            with self.subTest(V=micro_batches, B=batch_size, workers=workers):
                arguments = ("--steps", 12, "--micro-batches", micro_batches, "--batch-size", batch_size, "--seed", 5)
                self.assert_same_result(self.run_with(workers, arguments), self.home.by_hand("digits", *arguments))

    def test_differ_for_another_seed(self):
        hashes = {self.home.by_hand("digits", "--steps", 5, "--seed", seed)["weights"] for seed in (1, 2, 3)}
        self.assertEqual(len(hashes), 3)

    def test_are_the_same_on_a_run_that_is_resized_at_random_moments(self):
        arguments = ("--steps", 600, "--batch-size", 128, "--seed", 11)
        expected = self.home.by_hand("digits", *arguments)
        job = self.job("digits", arguments, workers=2)
        job.wait_step(1)
        for size in (5, 3, 8, 1):
            self.pause(0, 0.6)
            self.home.launcher("resize", job.name, size)
        finished = job.finished()
        self.assertGreater(finished["generations"], 1, "no resize came in time")
        self.assert_same_result(finished, expected)
        self.assert_steps_never_go_down(job)
        self.assert_redone_at_most(0, job)

    def test_are_the_same_for_a_users_own_program(self):
        program = self.home.work / "mine"
        source = muster.ROOT / "tests" / "process" / "user_program.cc"
        self.home.run_tool(muster.BIN / "muster-c++", source, "-o", program, seconds=300)
        arguments = ("--steps", 40, "--seed", 3)
        expected = self.home.by_hand(program, *arguments)
        for workers in (1, 3):
            self.assert_same_result(self.run_with(workers, arguments, program=program), expected)

    def test_are_the_same_for_a_program_with_a_loop_of_its_own(self):
        program = muster.BIN.parent / "tests" / "user_loop"
        hashes = {self.run_with(workers, ("--steps", 40), program=program)["weights"] for workers in (1, 4)}
        self.assertEqual(len(hashes), 1)

    def test_are_not_claimed_for_float_sums_but_those_train_as_well(self):
        arguments = ("--steps", 60, "--seed", 4)
        exact = self.home.by_hand("digits", *arguments)
        finished = self.run_with(3, arguments, flags=("--reduce", "float"))
        self.assertEqual(finished["samples_consumed"], exact["samples_consumed"])
        self.assertAlmostEqual(finished["loss"], exact["loss"], delta=0.05 * exact["loss"])
        self.assertNotEqual(finished["weights"], exact["weights"])


class BitsOfPacedProgram(muster.JobTest):
    """The same with a program that waits for the test, so that every fault hits a running job on any machine."""

    def end(self, job, deaths):
        self.hurry()
        finished = job.finished()
        self.assert_same_result(finished, self.paced_alone())
        self.assert_steps_never_go_down(job)
        self.assert_redone_at_most(deaths, job)
        return finished

    def test_and_the_survivors_stay_through_every_resize(self):
        job = self.paced(workers=2)
        pids = job.wait_world(2)
        for size in (5, 3, 8, 1, 4):
            self.pause(0.05, 0.3)
            job.resize(size)
            members = job.wait_world(size)
            stayed = pids.keys() & members.keys()
            self.assertEqual(len(stayed), min(len(pids), size))
            self.assertEqual({w: pids[w] for w in stayed}, {w: members[w] for w in stayed}, "a survivor was restarted")
            pids = members
        self.end(job, deaths=0)

    def test_stay_when_a_stopped_worker_is_continued_after_its_eviction(self):
        job = self.paced(flags=("--heartbeat-timeout-ms", 1000))
        before = job.wait_world(3)
        victim = self.random.choice(sorted(before))
        job.kill_worker(before[victim], signal.SIGSTOP)
        evicted = job.wait_event("evicted", seconds=20)
        self.assertIn(victim, evicted["message"])
        self.assertIn("silent", evicted["message"])
        job.wait_world(2)
        step = job.step
        job.wait_step(step + 5)
        job.kill_worker(before[victim], signal.SIGCONT)
        self.assertEqual(job.wait_world(3), before, "no process is restarted, not even the one that was stopped")
        self.end(job, deaths=1)

    def test_stay_when_a_stopped_worker_is_continued_within_the_deadline(self):
        job = self.paced(flags=("--heartbeat-timeout-ms", 30000))
        before = job.wait_world(3)
        job.kill_worker(before[self.random.choice(sorted(before))], signal.SIGSTOP)
        self.pause(0.2, 0.5)
        for pid in before.values():
            job.kill_worker(pid, signal.SIGCONT)
        self.assertEqual(self.end(job, deaths=0)["generations"], 1, "a short pause is no reason for a change")

    def test_stay_when_the_coordinator_is_killed_again_and_again(self):
        job = self.paced()
        workers = job.wait_world(3)
        steps = []
        for _ in range(5):
            coordinator = muster.wait_until(job.coordinator, 20, "a coordinator", job.explain)
            steps.append(job.status()["step"])
            self.pause(0, 0.8)
            muster.send(coordinator, signal.SIGKILL)
            steps.append(job.status()["step"])
            muster.wait_until(lambda: job.coordinator() not in (None, coordinator), 20, "the next one", job.explain)
            steps += [job.status()["step"] for _ in range(3)]
        self.assertEqual(job.wait_world(3), workers, "a worker was restarted")
        self.assertEqual(steps, sorted(steps), "the step went down")
        finished = self.end(job, deaths=0)
        self.assertEqual(finished["generations"], 1, "training does not need the coordinator")
        self.assertIn("coordinator", {event["kind"] for event in job.events()})

    def test_stay_when_workers_die_while_the_coordinator_is_away(self):
        job = self.paced()
        before = job.wait_world(3)
        muster.send(job.coordinator(), signal.SIGKILL)
        job.kill_worker(before["w-1"])
        after = job.wait_world(3)
        self.assertEqual({w: after[w] for w in ("w-0", "w-2")}, {w: before[w] for w in ("w-0", "w-2")})
        self.end(job, deaths=1)

    def test_are_computed_on_while_the_coordinator_does_not_run(self):
        """P6: the ledgers, which workers write for each step, grow without it."""
        job = self.paced()
        workers = job.wait_world(3)
        coordinator = job.coordinator()
        os.kill(coordinator, signal.SIGSTOP)
        size = self.ledger_bytes(job)
        muster.wait_until(lambda: self.ledger_bytes(job) > size + 1000, 10, "steps without a coordinator")
        os.kill(coordinator, signal.SIGCONT)
        self.assertEqual(job.wait_world(3), workers)
        self.end(job, deaths=0)

    def ledger_bytes(self, job):
        return sum(file.stat().st_size for file in (job.folder / "ledger").iterdir())


if __name__ == "__main__":
    unittest.main()
