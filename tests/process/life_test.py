#!/usr/bin/env python3
"""How jobs live and end: whatever ends a launcher, an agent or a worker, the outcome is clear and nothing is left.

    MUSTER_BIN=build/bin tests/process/life_test.py
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster, processes  # noqa: E402

ENDLESS = ("--steps", 10_000_000)
# As /proc/net/tcp and tcp6 write 127.0.0.1, ::ffff:127.0.0.1 and ::1.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


class ForegroundJob(muster.JobTest):
    def endless(self, workers=3, flags=(), **options):
        job = self.job("digits", ENDLESS, workers=workers, flags=flags, **options)
        job.wait_world(workers)
        job.wait_step(3)
        return job

    def test_ends_within_a_second_when_its_launcher_is_killed(self):
        job = self.endless()
        self.assertGreaterEqual(len(self.home.processes()), 8)
        job.process.kill()
        self.home.assert_nothing_left(seconds=1)
        status = job.status()
        self.assertEqual(status["phase"], "failed")
        self.assertIn("died", status["message"])

    def test_ends_when_launcher_and_agents_are_killed_at_once(self):
        """Nobody is left who could kill the workers politely: they die by their death signal."""
        job = self.endless()
        for pid in [*job.agents().values(), job.process.pid]:
            os.kill(pid, signal.SIGSTOP)
        for pid in [*job.agents().values(), job.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.home.assert_nothing_left(seconds=2)

    def test_ends_when_launcher_and_coordinator_are_killed_at_once(self):
        job = self.endless()
        os.kill(job.coordinator(), signal.SIGKILL)
        job.process.kill()
        self.home.assert_nothing_left(seconds=1)

    def test_stops_after_its_step_at_the_first_ctrl_c(self):
        job = self.endless()
        os.killpg(job.process.pid, signal.SIGINT)
        finished = job.finished(code=130, seconds=20)
        self.assertEqual(finished["phase"], "stopped")
        self.assertGreater(finished["step"], 0)
        self.assertEqual(finished["samples_consumed"], finished["step"] * 16 * 16)
        self.assertRegex(finished["weights"], "^[0-9a-f]{32}$")
        self.home.assert_nothing_left(seconds=1)
        self.assert_ledger(job)

    def test_leaves_a_checkpoint_at_ctrl_c_that_resumes_to_the_same_bits(self):
        folder = self.home.work / "ckpt"
        arguments = ("--steps", 400, "--batch-size", 256)
        flags = ("--checkpoint", folder, "--checkpoint-every", 100000)
        job = self.job("digits", arguments, workers=3, flags=flags)
        job.wait_step(20)
        job.process.send_signal(signal.SIGINT)
        stopped = job.finished(code=130, seconds=20)
        self.assertEqual([p.name for p in folder.iterdir()], [f"step-{stopped['step']:012}"])
        resumed = self.job("digits", arguments, workers=2, flags=(*flags, "--resume"), name="again").finished()
        self.assert_same_result(resumed, self.home.by_hand("digits", *arguments))

    def test_is_killed_by_the_second_ctrl_c(self):
        """The first cannot be obeyed: a worker does not run, so no step ends."""
        job = self.endless(flags=("--heartbeat-timeout-ms", 60000))
        os.kill(job.workers()["w-1"], signal.SIGSTOP)
        job.process.send_signal(signal.SIGINT)
        muster.wait_until(lambda: "again to kill" in job.stderr(), 5, "the answer to the first Ctrl-C", job.explain)
        self.pause(0.1, 0.2)  # two at once count as one press, which several processes of a terminal passed on
        job.process.send_signal(signal.SIGINT)
        finished = job.finished(code=130, seconds=5)
        self.assertEqual(finished["phase"], "stopped")
        self.home.assert_nothing_left(seconds=1)

    def test_ends_with_143_at_sigterm(self):
        job = self.endless()
        job.process.terminate()
        self.assertEqual(job.finished(code=143, seconds=20)["phase"], "stopped")

    def test_stops_when_its_terminal_goes_away(self):
        job = self.endless()
        job.process.send_signal(signal.SIGHUP)
        self.assertEqual(job.finished(code=129, seconds=20)["phase"], "stopped")

    def test_stops_by_the_verb(self):
        job = self.endless()
        done = self.home.json("stop", job.name)
        self.assertEqual(done["phase"], "stopped")
        finished = job.finished(seconds=20)
        self.assertEqual(finished["phase"], "stopped")
        self.assertRegex(finished["weights"], "^[0-9a-f]{32}$")
        self.home.assert_nothing_left(seconds=1)

    def test_stops_at_once_by_the_verb(self):
        job = self.endless()
        job.stop("--now")
        self.assertEqual(job.finished(seconds=10)["phase"], "stopped")

    def test_stops_at_once_although_coordinator_and_a_worker_do_not_run(self):
        job = self.endless()
        os.kill(job.workers()["w-0"], signal.SIGSTOP)
        os.kill(job.coordinator(), signal.SIGSTOP)
        job.stop("--now")
        job.wait_exit(seconds=20)
        self.home.assert_nothing_left(seconds=1)

    def test_goes_on_after_its_agent_is_killed(self):
        job = self.endless()
        before = job.workers()
        os.kill(job.agents()["w-0"], signal.SIGKILL)
        muster.wait_until(lambda: not processes.is_alive(before["w-0"]), 3, "the worker without agent to end")
        after = job.wait_world(3)
        self.assertEqual({w: after[w] for w in ("w-1", "w-2")}, {w: before[w] for w in ("w-1", "w-2")})
        job.stop()
        job.finished()

    @unittest.skipUnless(os.geteuid() == 0, "only root may raise a priority again")
    def test_starts_a_joiner_at_low_priority_until_it_is_in_the_ring(self):
        marks = self.home.root / "marks"
        marks.mkdir()
        job = self.paced(workers=1, environment={"MUSTER_FAILPOINTS": "join.introduced=stall:2", "MUSTER_JOIN": "flat",
                                                 "MUSTER_FAILPOINT_MARKS": str(marks)})
        first = job.wait_world(1)["w-0"]
        job.resize(2)
        muster.wait_until(lambda: any(marks.iterdir()), 30, "the joiner")
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual(processes.nice_values(job.workers()["w-1"]), {max(ours, 10)})
        second = job.wait_world(2)["w-1"]
        for pid in (first, second):
            muster.wait_until(lambda: processes.nice_values(pid) == {ours}, 10, "all threads at the usual priority",
                              lambda: str(processes.nice_values(pid)))
        job.stop()

    def test_listens_on_loopback_only(self):
        job = self.endless()
        ports = processes.listening_ports(p.pid for p in self.home.processes())
        self.assertTrue(ports)
        self.assertEqual(set(ports.values()) - LOOPBACK, set(), ports)
        job.stop()
        job.finished()
        self.assertEqual(processes.listening_ports([job.process.pid]), {})


class DetachedJob(muster.JobTest):
    def test_lives_on_without_the_launcher_and_stops_by_the_verb(self):
        job = self.job("digits", ENDLESS, workers=2, detach=True)
        self.assertEqual(job.wait_exit(seconds=30), 0)
        detached = job.objects()[-1]
        self.assertEqual((detached["event"], detached["name"]), ("detached", "job"))
        step = job.status()["step"]
        muster.wait_until(lambda: job.status()["step"] > step, 10, "a step after the launcher has left", job.explain)
        self.assertTrue(processes.is_alive(detached["pid"]))
        self.assertEqual(os.getpgid(detached["pid"]), detached["pid"])
        self.assertEqual(self.home.json("stop", "job")["phase"], "stopped")
        self.home.assert_nothing_left(seconds=2)

    def test_is_followed_to_its_end_by_events(self):
        job = self.job("digits", ("--steps", 200), workers=2, detach=True)
        self.assertEqual(job.wait_exit(), 0)
        done = self.home.launcher("events", "job", "-f", "-o", "json", seconds=60)
        kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
        self.assertEqual(kinds[-1], "succeeded", kinds)
        status = job.status()
        self.assertEqual((status["phase"], status["step"]), ("succeeded", 200))

    def test_ends_when_its_supervisor_is_killed(self):
        job = self.job("digits", ENDLESS, workers=2, detach=True)
        job.wait_exit()
        os.kill(job.objects()[-1]["pid"], signal.SIGKILL)
        self.home.assert_nothing_left(seconds=1)
        self.assertEqual(job.status()["phase"], "failed")


class TwoJobs(muster.JobTest):
    def test_of_one_name_do_not_run_at_once_but_one_after_the_other(self):
        first = self.job("digits", ENDLESS, workers=1)
        first.wait_world(1)
        second = self.home.launcher("run", "--name", "job", "-y", "-o", "json", "--", "digits", "--steps", 3)
        self.assertEqual((second.returncode, second.stdout), (2, ""))
        self.assertIn('"job" is running already', second.stderr)
        first.stop()
        first.finished()
        third = self.job("digits", ("--steps", 3), workers=1).finished()
        self.assertEqual(third["step"], 3)

    def test_of_two_homes_never_meet(self):
        other = muster.Home()
        self.addCleanup(other.close)
        mine = self.job("digits", ENDLESS, workers=2)
        mine.wait_world(2)
        theirs = muster.Job(other, "digits", ENDLESS, workers=2)
        self.addCleanup(theirs.close)
        theirs.wait_world(2)
        self.assertEqual([j["name"] for j in other.json("ps")], ["job"])
        theirs.stop("--now")
        theirs.finished()
        self.assertEqual(mine.status()["phase"], "running")
        self.assertEqual(set(mine.workers().values()) & set(theirs.workers().values()), set())
        mine.stop()
        mine.finished()

    def test_at_once_in_one_home_do_not_disturb_each_other(self):
        arguments = ("--steps", 100, "--batch-size", 64)
        jobs = [self.job("digits", arguments, workers=2, name=name) for name in ("one", "two")]
        hashes = {job.finished()["weights"] for job in jobs}
        self.assertEqual(hashes, {self.home.by_hand("digits", *arguments)["weights"]})


class FullDisk(muster.JobTest):
    """A small file system of its own, where this may be mounted."""

    def small_disk(self, size):
        folder = self.home.root / "disk"
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
        self.addCleanup(lambda: subprocess.run(["umount", "-l", folder], check=True))
        return folder

    def fill(self, folder):
        """Until not one byte more fits."""
        with (folder / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 512):
                    pass
            except OSError:
                pass

    def test_for_checkpoints_costs_the_checkpoint_not_the_job(self):
        folder = self.small_disk("300k")
        arguments = ("--steps", 60, "--batch-size", 64)
        job = self.job("digits", arguments, workers=2, flags=("--checkpoint", folder / "c", "--checkpoint-every", 20))
        finished = job.finished()
        self.assert_same_result(finished, self.home.by_hand("digits", *arguments))
        failures = [e for e in job.events() if e["kind"] == "checkpoint-failed"]
        self.assertTrue(failures, job.events())
        self.assertIn("No space left", failures[0]["message"])
        half = [p.name for p in (folder / "c").iterdir() if not p.name.startswith("step-")]
        self.assertEqual(half, [], "half-written checkpoints")

    def test_for_jobs_from_the_start_is_said_at_once(self):
        disk = self.small_disk("64k")
        self.fill(disk)
        self.home.environment["MUSTER_HOME"] = str(disk)
        done = self.home.launcher("run", "--name", "full", "-y", "-o", "json", "--", "digits", "--steps", 5)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("No space left", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_for_jobs_in_the_middle_does_not_stop_training(self):
        disk = self.small_disk("2m")
        self.home.environment["MUSTER_HOME"] = str(disk)
        self.home.path = disk
        arguments = ("--steps", 400, "--batch-size", 128)
        job = self.job("digits", arguments, workers=2)
        job.wait_step(10)
        self.fill(disk)
        finished = job.finished()
        self.assertEqual(finished["phase"], "succeeded")
        self.assertEqual(finished["weights"], self.home.by_hand("digits", *arguments)["weights"])


if __name__ == "__main__":
    unittest.main()
