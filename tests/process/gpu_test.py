#!/usr/bin/env python3
"""Jobs on GPUs, or on the stand-ins for driver, NCCL and cuBLAS: the bits do not depend on ranks, transport or faults, and a GPU that fails
takes one worker along.

    MUSTER_TEST_DEVICE=cuda MUSTER_BIN=build/bin tests/process/gpu_test.py

On a machine without a GPU MUSTER_LIBCUDA, MUSTER_LIBNCCL and MUSTER_LIBCUBLAS name the stand-ins; tests of faults need them.
"""

import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster, processes  # noqa: E402

STANDINS = "MUSTER_LIBCUDA" in os.environ
DIGITS = ("--steps", 25, "--seed", 4)


@unittest.skipUnless(muster.DEVICE, "MUSTER_TEST_DEVICE is not set")
class Gpu(muster.JobTest):
    def kinds(self, job, kind):
        return [event["message"] for event in job.events() if event["kind"] == kind]

    def logs(self, job):
        return self.home.launcher("logs", job.name).stdout

    def digits(self, workers, collectives):
        job = self.job("digits", DIGITS, workers=workers, name=f"digits-{workers}-{collectives}",
                       flags=("--collectives", collectives))
        return job, job.finished()

    def test_digits_has_the_same_bits_for_any_number_of_ranks(self):
        expected = self.home.by_hand("digits", *DIGITS)
        for workers in (1, 2, 3, 4):
            for collectives in ("nccl", "host"):
                job, finished = self.digits(workers, collectives)
                self.assert_same_result(finished, expected)
                rings = self.logs(job).count("nccl_ms=")
                self.assertEqual(rings > 0, collectives == "nccl" and workers > 1, "who has summed")

    def test_a_gpu_takes_the_steps_of_a_cpu(self):
        """The paced program computes its gradients on the host, and so they are the same."""
        job = self.paced(steps=300)
        job.wait_world(3)
        for worker in job.status()["workers"]:
            self.assertRegex(worker["device"], r"^cuda:\d+ \(")
        self.hurry()
        finished = job.finished()
        self.home.environment["MUSTER_DEVICE"] = "cpu"
        self.assert_same_result(finished, self.paced_alone(steps=300))

    def test_without_nccl_sums_go_through_the_host(self):
        """So they do where it would refuse the ranks, because two of them are on one GPU."""
        expected = self.home.by_hand("digits", *DIGITS)
        for workers, name, value in (2, "NCCL_MULTI_RANK_GPU_ENABLE", "0"), (3, "MUSTER_LIBNCCL", "/no/libnccl.so.2"):
            self.home.environment[name] = value
            job, finished = self.digits(workers, "auto")
            self.assert_same_result(finished, expected)
            self.assertIn("collectives=host reason=", self.logs(job))
        done = self.home.launcher("run", "--collectives", "nccl", "-y", "--", "digits")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--collectives nccl: NCCL was not found", done.stderr)

    def test_a_gpu_that_is_expected_is_not_done_without(self):
        self.home.environment |= {"MUSTER_DEVICE": "auto", "MUSTER_LIBCUBLAS": "/no/libcublas.so.13"}
        self.assertEqual(self.home.by_hand("digits", "--steps", 3)["step"], 3)
        self.home.environment["MUSTER_GPU_EXPECTED"] = "1"
        with self.assertRaisesRegex(AssertionError, "ended with 3: error: cuBLAS was not found"):
            self.home.by_hand("digits", "--steps", 3)

    def test_checkpoints_hold_what_is_on_the_gpu(self):
        flags = ("--checkpoint", self.home.work / "ckpt", "--checkpoint-every", 7)
        self.job(muster.PACED, self.paced_arguments(30), name="first", workers=2, flags=flags).finished()
        second = self.job(muster.PACED, self.paced_arguments(60), name="second", workers=3, flags=(*flags, "--resume"))
        self.assert_same_result(second.finished(), self.paced_alone(steps=60))

    @unittest.skipUnless(STANDINS, "needs a GPU that fails on demand")
    def test_a_sick_gpu_does_not_join_and_is_named(self):
        self.home.environment |= {"MUSTER_STANDIN_GPUS": "2", "MUSTER_STANDIN_SICK": "1"}
        job = self.paced(workers="1:2", steps=600)
        job.wait_event("crash-loop")
        for kind in ("worker-exited", "crash-loop"):
            self.assertRegex(self.kinds(job, kind)[-1], r"w-1 exited with code 3.*: error: cuda:1 \(stand-in GPU, 1 GiB\) is not in order")
        self.hurry()
        finished = job.finished()
        self.assertEqual(finished["phase"], "succeeded")
        self.assert_same_result(finished, self.paced_alone(steps=600))

    def job_with_a_victim(self, variable, victim="w-1"):
        """(job, {id: pid}, what to call for the fault that `variable` names to happen to the victim)."""
        file = self.home.root / "victim"
        job = self.paced(environment={variable: str(file)})
        before = job.wait_world(3)
        job.wait_step(5)
        return job, before, lambda: file.write_text(f"{before[victim]}\n")

    def end_with_new(self, job, before, victims):
        for victim in victims:
            muster.wait_until(lambda: not processes.is_alive(before[victim]), 30, f"{victim} to end", job.explain)
        after = job.wait_world(3)
        stayed = before.keys() - victims
        self.assertEqual({w: after[w] for w in stayed}, {w: before[w] for w in stayed}, "a survivor was restarted")
        self.hurry()
        self.assert_same_result(job.finished(), self.paced_alone())

    @unittest.skipUnless(STANDINS, "needs a GPU that fails on demand")
    def test_a_gpu_that_fails_takes_its_worker_along_and_is_named(self):
        job, before, fail = self.job_with_a_victim("MUSTER_STANDIN_FAIL_FILE")
        fail()
        self.end_with_new(job, before, {"w-1"})
        self.assertRegex(self.kinds(job, "gpu-failed")[-1], r"cuda:0 \(stand-in GPU, 1 GiB\) at 0000:00:00.0 has failed: .*ECC")

    @unittest.skipUnless(STANDINS, "needs an NCCL that hangs on demand")
    def test_who_hangs_in_nccl_is_replaced(self):
        job, before, hang = self.job_with_a_victim("MUSTER_STANDIN_NCCL_HANG_FILE")
        hang()
        job.kill_worker(before["w-2"])
        self.end_with_new(job, before, {"w-1", "w-2"})


if __name__ == "__main__":
    unittest.main()
