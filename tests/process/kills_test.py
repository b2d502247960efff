#!/usr/bin/env python3
"""Workers die in every way at every moment: the bits stay, the survivors stay, at most one step is redone per death.

    MUSTER_BIN=build/bin MUSTER_TEST_KILLS=20 tests/process/kills_test.py
"""

import os
import pathlib
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster, processes  # noqa: E402

KILLS = int(os.environ.get("MUSTER_TEST_KILLS") or 20)


class Kills(muster.JobTest):
    def end(self, job, deaths, expected=None):
        self.hurry()
        finished = job.finished()
        self.assertEqual(finished["phase"], "succeeded")
        self.assert_same_result(finished, expected or self.paced_alone())
        self.assert_steps_never_go_down(job)
        self.assert_redone_at_most(deaths, job)

    def assert_stayed(self, before, after, victims):
        self.assertEqual({w: p for w, p in after.items() if w not in victims},
                         {w: p for w, p in before.items() if w not in victims}, "a survivor was restarted")
        for victim in victims:
            self.assertNotEqual(after[victim], before[victim])

    def kill(self, job, before, victims, number=signal.SIGKILL):
        """Kills `victims` at once in the middle of a step, and waits until they are back."""
        job.wait_step(5)
        self.pause(0, 0.05)
        for victim in victims:
            self.assertTrue(job.kill_worker(before[victim], number))
        muster.wait_until(lambda: not any(processes.is_alive(before[v]) for v in victims), 5, "the victims to end")
        after = job.wait_world(len(before))
        self.assert_stayed(before, after, victims)
        return after

    def test_of_twenty_at_random_moments(self):
        job = self.paced(workers=4)
        workers = job.wait_world(4)
        killed = 0
        while killed < KILLS:
            self.pause(0.02, 0.3)
            alive = muster.wait_until(lambda: self.members(job, 3), 30, "three members", job.explain)
            victims = self.random.sample(sorted(alive), self.random.choice((1, 1, 1, 2)))
            killed += sum([job.kill_worker(alive[victim]) for victim in victims])
            job.wait_step(job.step + 1, seconds=30)
            restarted = [w for w, pid in alive.items() if w not in victims and not processes.is_alive(pid)]
            self.assertEqual(restarted, [], f"killed were {victims}\n{job.explain()}")
        self.assertEqual(job.wait_world(4).keys(), workers.keys())
        self.end(job, killed)

    def members(self, job, least):
        """{id: pid} of the workers that hold the state, if there are so many."""
        training = {w["id"]: w["pid"] for w in job.status()["workers"] if w["state"] == "training"}
        alive = {worker: pid for worker, pid in training.items() if processes.is_alive(pid)}
        return len(alive) >= least and alive

    def test_of_digits_until_it_ends(self):
        arguments = ("--steps", 500, "--batch-size", 128, "--seed", 9)
        expected = self.home.by_hand("digits", *arguments)
        job = self.job("digits", arguments, workers=4)
        job.wait_world(4)
        killed = 0
        while job.process.poll() is None:
            workers = list(job.workers().values())  # none at the end
            if workers and self.members(job, 2):  # one that holds the state survives
                killed += job.kill_worker(self.random.choice(workers))
            self.pause(0.05, 0.3)
        self.assertGreater(killed, 0)
        self.assert_same_result(job.finished(), expected)
        self.assert_redone_at_most(killed, job)

    def test_of_the_lowest_rank(self):
        job = self.paced()
        before = job.wait_world(3)
        self.kill(job, before, [next(w["id"] for w in job.status()["workers"] if w["rank"] == 0)])
        self.end(job, 1)

    def test_of_two_at_once(self):
        job = self.paced(workers=4)
        before = job.wait_world(4)
        self.kill(job, before, self.random.sample(sorted(before), 2))
        self.end(job, 2)

    def test_of_all_but_one(self):
        job = self.paced(workers=4)
        before = job.wait_world(4)
        self.kill(job, before, self.random.sample(sorted(before), 3))
        self.end(job, 3)

    def test_by_a_crash(self):
        job = self.paced()
        self.kill(job, job.wait_world(3), ["w-1"], signal.SIGABRT)  # not SEGV: a sanitizer would report it
        self.end(job, 1)

    def test_during_resizes(self):
        job = self.paced()
        job.wait_world(3)
        for size in (6, 2):
            before = job.workers()
            job.resize(size)
            self.pause(0, 0.1)
            job.kill_worker(before[self.random.choice(sorted(before))])
            job.wait_world(size)
        self.end(job, 2)

    def test_of_workers_that_are_still_joining(self):
        """The state is large, so that a joiner takes a while to fetch it."""
        knobs = {"PACED_FLOATS": "500000"}
        self.home.environment.update(knobs)
        expected = self.paced_alone(steps=200)
        job = self.paced(steps=200, workers=2)
        before = job.wait_world(2)
        job.resize(4)
        deaths = 0
        for _ in range(4):
            joiners = muster.wait_until(lambda: [p for w, p in job.workers().items() if w not in before], 20, "a joiner")
            self.pause(0, 0.15)
            deaths += job.kill_worker(self.random.choice(joiners))
        after = job.wait_world(4)
        self.assertEqual({w: after[w] for w in before}, before)
        self.end(job, deaths, expected)

    def test_of_every_worker_at_once(self):
        """Nobody holds the state any more: the job begins again and comes to the same end."""
        job = self.paced()
        for pid in job.wait_world(3).values():
            job.kill_worker(pid)
        job.wait_event("all-lost")
        self.hurry()
        self.assert_same_result(job.finished(), self.paced_alone())
        self.assert_ledger(job)

    def test_of_an_agent(self):
        """Its worker dies with it, and both come back."""
        job = self.paced()
        before = job.wait_world(3)
        agent = job.agents()["w-1"]
        muster.send(agent, signal.SIGKILL)
        muster.wait_until(lambda: not processes.is_alive(before["w-1"]), 5, "the orphaned worker to end")
        self.assert_stayed(before, job.wait_world(3), ["w-1"])
        self.assertNotEqual(job.agents()["w-1"], agent)
        self.assertIn("agent-exited", {event["kind"] for event in job.events()})
        self.end(job, 1)

    def test_of_a_worker_that_hangs_in_its_step(self):
        """It is evicted by the deadline for steps, and comes back when it has got over it."""
        hang = self.home.work / "hang"
        hang.touch()
        job = self.paced(flags=("--step-timeout-ms", 1500), ms=1,
                         environment={"PACED_HANG_AT": "20", "PACED_HANG_FILE": str(hang)})
        evicted = job.wait_event("evicted", seconds=30)
        hang.unlink()
        self.assertIn("w-0", evicted["message"])
        self.assertIn("without ending its step", evicted["message"])
        job.wait_world(3)
        self.end(job, 1)

    def test_are_explained_by_events(self):
        job = self.paced()
        self.kill(job, job.wait_world(3), ["w-2"])
        self.end(job, 1)
        change = next(e for e in job.events() if e["kind"] == "membership" and len(e["members_after"]) == 2)
        self.assertEqual(change["members_before"], ["w-0", "w-1", "w-2"])
        self.assertEqual(change["members_after"], ["w-0", "w-1"])
        self.assertIn("w-2", change["cause"])
        self.assertGreater(change["step"], 0)
        self.assertLessEqual(change["steps_redone"], 1)
        for phase in ("detect_ms", "agree_ms", "connect_ms", "state_ms", "resume_ms"):
            self.assertGreaterEqual(change[phase], 0, phase)
            self.assertLess(change[phase], 5000 * muster.SCALE, phase)
        exits = [e["message"] for e in job.events() if e["kind"] == "worker-exited"]
        self.assertIn("w-2 was killed by signal 9", exits)


if __name__ == "__main__":
    unittest.main()
