#!/usr/bin/env python3
"""Checkpoints: any world size resumes to the same bits; a damaged one is refused by name, and the one before is used.

    MUSTER_BIN=build/bin tests/process/checkpoint_test.py
"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster  # noqa: E402

STEPS = 90
ARGUMENTS = ("--steps", STEPS, "--batch-size", 64, "--seed", 17)


class Checkpoint(muster.JobTest):
    def setUp(self):
        super().setUp()
        self.folder = self.home.work / "ckpt"

    def train(self, workers=2, arguments=ARGUMENTS, resume=False, every=20, name="job"):
        flags = ("--checkpoint", self.folder, "--checkpoint-every", every, *(["--resume"] if resume else []))
        return self.job("digits", arguments, workers=workers, flags=flags, name=name)

    def stopped_job(self, after=50, **options):
        """A job that was stopped in the middle; the steps of its checkpoints, newest first."""
        job = self.train(arguments=("--steps", 4000, *ARGUMENTS[2:]), **options)
        job.wait_step(after)
        job.stop()
        self.assertEqual(job.finished()["phase"], "stopped")
        steps = self.steps()
        self.assertGreaterEqual(len(steps), 2)
        return steps

    def steps(self):
        return sorted((int(p.name.split("-")[1]) for p in self.folder.iterdir()), reverse=True)

    def file(self, step, name="state.safetensors"):
        return self.folder / f"step-{step:012}" / name

    def damage(self, step, name="state.safetensors", how="flip"):
        path = self.file(step, name)
        content = bytearray(path.read_bytes())
        if how == "flip":
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
        elif how == "cut":
            content = content[:self.random.randrange(len(content))]
        if how == "remove":
            path.unlink()
        else:
            path.write_bytes(content)

    def resumed(self, workers, **options):
        job = self.train(workers=workers, resume=True, name="again", arguments=("--steps", 4000, *ARGUMENTS[2:]), **options)
        return job

    def test_resumes_at_every_world_size_to_the_same_bits(self):
        arguments = ("--steps", 300, *ARGUMENTS[2:])
        expected = self.home.by_hand("digits", *arguments)
        first = self.train(workers=3, arguments=arguments)
        first.wait_step(30)
        first.stop()
        stopped = first.finished()
        self.assertEqual(stopped["phase"], "stopped")
        self.assertEqual(self.steps()[0], stopped["step"], "a stop leaves a checkpoint of its step")
        for workers in (1, 2, 5):
            copy = self.home.work / f"copy-{workers}"
            self.home.run_tool("cp", "-a", self.folder, copy)
            flags = ("--checkpoint", copy, "--resume")
            job = self.job("digits", arguments, workers=workers, flags=flags, name=f"resumed-{workers}")
            self.assert_same_result(job.finished(), expected)
            ledger = self.assert_ledger(job)
            self.assertEqual((ledger["first_step"], ledger["steps"]), (stopped["step"], 300 - stopped["step"]))

    def test_that_is_damaged_is_refused_and_the_one_before_is_used(self):
        arguments = ("--steps", 400, *ARGUMENTS[2:])
        expected = self.home.by_hand("digits", *arguments)
        first = self.train(arguments=arguments)
        first.wait_step(60)
        first.stop()
        first.finished()
        newest, before, *_ = self.steps()
        kinds = (("state.safetensors", "flip"), ("state.safetensors", "cut"), ("state.safetensors", "remove"),
                 ("manifest.json", "flip"), ("manifest.json", "cut"), ("manifest.json", "remove"))
        for number, (name, how) in enumerate(kinds):
            with self.subTest(file=name, how=how):
                original = self.file(newest, name).read_bytes()
                self.damage(newest, name, how)
                copy = self.home.work / f"damaged-{number}"
                self.home.run_tool("cp", "-a", self.folder, copy)
                self.file(newest, name).write_bytes(original)
                job = self.job("digits", arguments, flags=("--checkpoint", copy, "--resume"), workers=2,
                               name=f"damaged-{number}")
                self.assert_same_result(job.finished(), expected)
                events = job.events()
                refused = [e["message"] for e in events if e["kind"] == "checkpoint-refused"]
                self.assertEqual(len(refused), 1, events)
                self.assertIn(f"step-{newest:012}/{name}", refused[0])
                restored = [e["message"] for e in events if e["kind"] == "restore"]
                self.assertIn(f"restored step {before} ", restored[0])

    def test_all_damaged_ends_with_6(self):
        steps = self.stopped_job()
        for step in steps:
            self.damage(step)
        job = self.resumed(2)
        finished = job.finished(code=6, seconds=20)
        self.assertEqual(finished["phase"], "failed")
        self.assertIn("state.safetensors", finished["message"])

    def test_none_at_all_ends_with_6(self):
        self.folder.mkdir()
        finished = self.resumed(2).finished(code=6, seconds=20)
        self.assertIn(str(self.folder), finished["message"])

    def test_of_another_run_ends_with_6_and_names_the_difference(self):
        self.stopped_job()
        cases = ((("--seed", 18, "--batch-size", 64), (), "seed"), (("--seed", 17, "--batch-size", 32), (), "batch"),
                 (("--seed", 17, "--batch-size", 64, "--micro-batches", 8), (), "micro"),
                 (("--seed", 17, "--batch-size", 64), ("--reduce", "float"), "reduce"))
        for number, (arguments, flags, word) in enumerate(cases):
            with self.subTest(word=word):
                job = self.job("digits", ("--steps", 4000, *arguments), workers=2, name=f"other-{number}",
                               flags=("--checkpoint", self.folder, "--resume", *flags))
                finished = job.finished(code=6, seconds=20)
                self.assertIn(word, finished["message"])

    def test_beyond_the_last_step_ends_with_6(self):
        newest = self.stopped_job()[0]
        flags = ("--checkpoint", self.folder, "--resume")
        job = self.job("digits", ("--steps", newest - 1, *ARGUMENTS[2:]), workers=2, flags=flags, name="shorter")
        self.assertIn(f"of step {newest}, but the run has {newest - 1} steps", job.finished(code=6, seconds=20)["message"])

    def test_is_written_while_training_goes_on_and_few_are_kept(self):
        job = self.train(arguments=("--steps", 200, *ARGUMENTS[2:]), every=10)
        self.assertEqual(job.finished()["step"], 200)
        self.assertEqual(self.steps()[0], 200)
        self.assertLessEqual(len(self.steps()), 3)
        written = [e for e in job.events() if e["kind"] == "checkpoint"]
        self.assertGreater(len(written), 3)

    def test_brings_back_a_job_that_lost_all_its_workers(self):
        arguments = ("--steps", 400, "--batch-size", 256, "--seed", 17)
        job = self.train(arguments=arguments, workers=3)
        job.wait_event("checkpoint")
        for pid in job.wait_world(3).values():
            job.kill_worker(pid)
        self.assert_same_result(job.finished(), self.home.by_hand("digits", *arguments))
        kinds = [e["kind"] for e in job.events()]
        self.assertIn("all-lost", kinds)
        self.assertIn("restore", kinds)

    def test_of_an_earlier_run_is_not_used_without_being_asked_to(self):
        """Nor is a new run mixed with it: a later --resume could not tell them apart."""
        newest = self.stopped_job()[0]
        done = self.home.launcher("run", "--name", "fresh", "--checkpoint", self.folder, "-y", "-o", "json", "--",
                                  "digits", *ARGUMENTS)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertIn("--resume", done.stderr)
        self.assertIn(str(newest), done.stderr)

    def test_survives_a_worker_killed_while_it_writes(self):
        """It writes after every step, and the state is large enough for that to take a while."""
        self.home.environment["PACED_FLOATS"] = "200000"
        flags = ("--checkpoint", self.folder, "--checkpoint-every", 1)
        job = self.paced(steps=400, flags=flags)
        for _ in range(4):
            job.wait_world(3)
            job.wait_step(job.step + 5)
            self.pause(0, 0.05)
            self.assertTrue(job.kill_worker(next(w["pid"] for w in job.status()["workers"] if w["rank"] == 0)))
            job.wait_step(job.step + 1)
        self.hurry()
        self.assert_same_result(job.finished(), self.paced_alone(steps=400))
        self.assertEqual([p.name for p in self.folder.iterdir() if not p.name.startswith("step-")], [])
        again = self.job(muster.PACED, self.paced_arguments(400), workers=1, flags=(*flags, "--resume"), name="again")
        self.assertEqual(again.finished()["step"], 400)


if __name__ == "__main__":
    unittest.main()
