#!/usr/bin/env python3
"""What users type and read: bad flags, JSON that is only JSON, closed streams, unknown jobs.

    MUSTER_BIN=build/bin tests/process/verbs_test.py
"""

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.harness import muster  # noqa: E402

RUN = ("run", "--name", "bad", "-y", "-o", "json")

# What is typed after `launcher run`, and the word that the refusal must contain.
BAD_RUN_FLAGS = [
    (("--workers", "0"), "--workers"), (("--workers", "-1"), "--workers"), (("--workers", "four"), "--workers"),
    (("--workers", ""), "--workers"), (("--workers", "4097"), "--workers"), (("--workers", "3:2"), "--workers"),
    (("--workers", "0:2"), "--workers"), (("--workers", "2:"), "--workers"), (("--workers", "1:2:3"), "--workers"),
    (("--workers", "99999999999999999999"), "--workers"), (("--workers", "2.5"), "--workers"),
    (("--workers", " 2"), "--workers"), (("--workers", "0x2"), "--workers"),
    (("--reduce", "inexact"), "--reduce"), (("--reduce", ""), "--reduce"),
    (("--collectives", "smoke"), "--collectives"), (("--collectives", "nccl"), "--collectives"),
    (("--platform", "moon"), "--platform"), (("--image", "a:1"), "--image"), (("--dry-run",), "--dry-run"),
    (("--platform", "kubernetes", "--kubeconfig", "no-such-file"), "no-such-file"),
    (("-f", "no-such-job.yaml"), "-f"), (("-f", ""), "-f"),
    (("--name", "Upper"), "--name"), (("--name", "../up"), "--name"), (("--name", ""), "--name"),
    (("--name", "a" * 64), "--name"), (("--name", "-a"), "--name"), (("--name", "a/b"), "--name"),
    (("--checkpoint", ""), "--checkpoint"), (("--checkpoint", "/dev/null"), "--checkpoint"),
    (("--checkpoint-every", "10"), "--checkpoint"), (("--resume",), "--resume"),
    (("--checkpoint", "c", "--checkpoint-every", "-1"), "--checkpoint-every"),
    (("--checkpoint", "c", "--checkpoint-every", "often"), "--checkpoint-every"),
    (("--heartbeat-timeout-ms", "99"), "--heartbeat-timeout-ms"),
    (("--heartbeat-timeout-ms", "600001"), "--heartbeat-timeout-ms"),
    (("--step-timeout-ms", "0"), "--step-timeout-ms"), (("--step-timeout-ms", "1e3"), "--step-timeout-ms"),
    (("--start-timeout-ms", "86400001"), "--start-timeout-ms"),
    (("-o", "yaml"), "--output"), (("--worker", "2"), "--workers"), (("--frobnicate",), "--frobnicate"),
    (("--workers",), "--workers"), (("--workers", "2", "--workers", "0"), "--workers"),
]

# A whole command line after `launcher`, and what the refusal must contain.
BAD_COMMANDS = [
    (("rum",), "run"), (("status", "nowhere"), "nowhere"), (("events", "nowhere"), "nowhere"),
    (("logs", "nowhere"), "nowhere"), (("stop", "nowhere"), "nowhere"), (("resize", "nowhere", "3"), "nowhere"),
    (("ledger", "nowhere"), "nowhere"), (("status", "../../etc"), "../../etc"), (("status", "a", "b"), "b"),
    (("resize", "nowhere"), "number of workers"), (("ps", "--sideways"), "--sideways"), (("ps", "extra"), "extra"),
    (("status", "-o", "xml"), "--output"), (("version", "--", "digits"), "version"),
    (("render", "-n", "Up", "--", "digits"), "--namespace"), (("render", "--image", "a b", "--", "digits"), "--image"),
    (("render", "--service-account", "A", "--", "digits"), "--service-account"), (("render", "--rbca"), "--rbac"),
    (("render", "--rbac", "--", "digits"), "--rbac"), (("render", "--rbac", "--user", ""), "--user"),
    (("render", "--user", "ada", "--", "digits"), "--user"), (("render", "--platform", "local", "--", "digits"), "--platform"),
    (("run", "digits", "--steps", "3"), "--"), (("run",), "program"), (("run", "--"), "program"),
]

# What a training program refuses by itself.
BAD_PROGRAM_FLAGS = [
    ("--steps", "0"), ("--steps", "-5"), ("--steps", "many"), ("--steps", ""), ("--micro-batches", "0"),
    ("--micro-batches", "70000"), ("--batch-size", "0"), ("--batch-size", "2000000"), ("--seed", "-1"),
    ("--seed", "99999999999999999999999"), ("--data", ""), ("--no-such-flag", "1"), ("--steps",),
]


class BadFlags(muster.JobTest):
    def assert_refused(self, arguments, word):
        done = self.home.launcher(*arguments)
        with self.subTest(arguments=arguments):
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertIn(word, done.stderr)
            self.assertEqual(done.stdout, "")
            self.assertLess(len(done.stderr), 2000)
            self.assertNotIn("terminate called", done.stderr)

    def test_of_run_are_refused_by_name(self):
        for flags, word in BAD_RUN_FLAGS:
            self.assert_refused((*RUN, *flags, "--", "digits", "--steps", 1), word)
        self.assertEqual(self.home.json("ps"), [], "a refused job leaves no folder")

    def test_of_other_verbs_are_refused_by_name(self):
        for arguments, word in BAD_COMMANDS:
            self.assert_refused(arguments, word)

    def test_for_gpus_say_what_is_missing(self):
        self.home.environment["MUSTER_LIBCUDA"] = "no-such-libcuda"
        self.assert_refused((*RUN, "--collectives", "nccl", "--", "digits"), "no NVIDIA driver was found")
        checks = {check["check"]: check for check in self.home.json("doctor")["checks"]}
        self.assertTrue(checks["GPU"]["ok"], "a machine without GPUs is in order")
        self.assertIn("no NVIDIA driver was found", checks["GPU"]["detail"])

    def test_of_a_program_are_refused_by_name(self):
        for flags in BAD_PROGRAM_FLAGS:
            done = subprocess.run([muster.program_path("digits"), *flags], capture_output=True, text=True, timeout=60)
            with self.subTest(flags=flags):
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertIn(flags[0], done.stderr)


class Json(muster.JobTest):
    def test_is_all_that_any_verb_prints_of_a_running_and_of_an_ended_job(self):
        job = self.job("digits", ("--steps", 10_000_000), workers=2)
        job.wait_world(2)
        self.look_with_every_verb(job)
        self.assertEqual(self.home.json("resize", job.name, 3)["max_workers"], 3)
        job.wait_world(3)
        self.assertEqual(self.home.json("stop", job.name)["phase"], "stopped")
        self.assertEqual(job.finished()["phase"], "stopped")
        self.look_with_every_verb(job)

    def look_with_every_verb(self, job):
        status = job.status()
        wanted = {"name", "platform", "phase", "generation", "step", "total_steps", "world_size", "min_workers",
                  "max_workers", "loss", "samples_per_second", "samples_consumed", "workers", "message"}
        self.assertLessEqual(wanted, status.keys())
        self.assertLessEqual({"id", "rank", "pid", "host", "device", "state", "step_seconds"},
                             status["workers"][0].keys())
        self.assertEqual(status["samples_consumed"], status["step"] * 16 * 16)
        self.assertEqual([entry["name"] for entry in self.home.json("ps")], [job.name])
        self.assertTrue(self.home.json("version")["version"])
        self.assertTrue(self.home.json("doctor")["ok"])
        self.assertTrue(self.home.json("ledger", job.name)["ok"])
        for event in job.events():
            self.assertLessEqual({"time", "generation", "kind", "message"}, event.keys())
        for line in self.home.launcher("logs", job.name, "-o", "json").stdout.splitlines():
            self.assertIn("worker", json.loads(line))

    def test_of_run_ends_with_the_finished_object(self):
        job = self.job("digits", ("--steps", 30), workers=2)
        finished = job.finished()
        wanted = {"event", "phase", "step", "loss", "weights", "samples_consumed", "generations", "seconds", "metrics"}
        self.assertLessEqual(wanted, finished.keys())
        self.assertGreater(finished["metrics"]["test_accuracy"], 0)
        self.assertEqual(finished["generations"], 1)
        self.assertEqual(job.status()["loss"], finished["loss"])
        self.assertTrue(all("event" in line for line in job.objects()))


class Streams(muster.JobTest):
    """Nobody reads, or nobody is there."""

    def run_digits(self, redirect, steps=400, name="job"):
        command = f"'{muster.LAUNCHER}' run --name {name} --workers 2 -y -- digits --steps {steps} {redirect}"
        return subprocess.run(["/bin/bash", "-c", "set -o pipefail; " + command], env=self.home.environment,
                              cwd=self.home.work, capture_output=True, text=True, timeout=60 * muster.SCALE)

    def assert_trained(self, name="job", steps=400):
        status = self.home.json("status", name)
        self.assertEqual((status["phase"], status["step"]), ("succeeded", steps))

    def test_closed_ones_are_survived(self):
        for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            with self.subTest(redirect=redirect):
                done = self.run_digits(redirect)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assert_trained()

    def test_head_is_survived(self):
        done = self.run_digits("2>&1 | head -1")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assert_trained()

    def test_head_of_json_is_survived(self):
        done = self.run_digits("| head -1").stdout
        self.assertEqual(len(done.splitlines()), 1)
        self.assert_trained()

    def test_a_full_device_is_survived(self):
        self.assertEqual(self.run_digits("> /dev/full").returncode, 0)
        self.assert_trained()

    def test_head_of_events_and_logs_ends_them(self):
        job = self.job("digits", ("--steps", 10_000_000), workers=2)
        job.wait_world(2)
        for verb in ("events", "logs"):
            command = f"'{muster.LAUNCHER}' {verb} job -f | head -1"
            done = subprocess.run(["/bin/bash", "-c", command], env=self.home.environment, capture_output=True,
                                  text=True, timeout=30 * muster.SCALE)
            self.assertEqual(len(done.stdout.splitlines()), 1)
        job.stop("--now")
        job.finished()

    def test_without_a_terminal_progress_is_plain_lines(self):
        done = self.run_digits("")
        self.assertNotIn("\x1b", done.stderr + done.stdout)
        self.assertNotIn("\r", done.stderr + done.stdout)
        self.assertRegex(done.stdout, "[0-9a-f]{32}")

    def test_on_a_terminal_progress_has_an_eta_and_stays_in_its_line(self):
        text = self.on_a_terminal(["run", "--name", "tty", "--workers", "2", "-y", "--", "digits", "--steps", "3000"])
        self.assertRegex(text, r"\d+/3000")
        self.assertRegex(text, r"ETA|left")
        self.assertIn("\r", text)

    def on_a_terminal(self, arguments):
        """All that the launcher writes to a terminal of its own."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.home.work)
            os.execve(muster.LAUNCHER, [muster.LAUNCHER, *arguments], {**self.home.environment, "TERM": "xterm"})
        text = b""
        deadline = time.monotonic() + 60 * muster.SCALE
        try:
            while time.monotonic() < deadline and (part := os.read(terminal, 65536)):
                text += part
        except OSError:  # how a terminal says that nobody is there any more
            pass
        os.close(terminal)
        self.assertEqual(os.waitpid(pid, 0)[1], 0, text.decode(errors="replace"))
        return text.decode(errors="replace")

    def test_top_shows_screens_until_the_end(self):
        self.job("digits", ("--steps", 3000), workers=2).wait_world(2)
        text = self.on_a_terminal(["top", "job"])
        self.assertGreaterEqual(text.count("\x1b[H\x1b[2J"), 2)
        self.assertRegex(text.split("\x1b[2J")[1], r"job: \w+, generation \d+\r\n(.*\r\n)+WORKER +RANK +STATE")
        self.assertIn("job: succeeded", text.split("\x1b[2J")[-1])
        [line] = self.home.launcher("top", "job", "-o", "json").stdout.splitlines()
        self.assertEqual(json.loads(line)["phase"], "succeeded")

    def test_ctrl_c_on_a_terminal_stops_the_job(self):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(muster.LAUNCHER, [muster.LAUNCHER, "run", "--name", "tty", "--workers", "2", "-y", "--", "digits",
                                        "--steps", "10000000"], {**self.home.environment, "TERM": "xterm"})
        muster.wait_until(lambda: self.has_steps("tty"), 30, "the first step")
        os.write(terminal, b"\x03")
        text = b""
        try:
            while part := os.read(terminal, 65536):
                text += part
        except OSError:
            pass
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 130)
        self.assertEqual(self.home.json("status", "tty")["phase"], "stopped")

    def has_steps(self, name):
        done = self.home.launcher("status", name, "-o", "json")
        return done.returncode == 0 and json.loads(done.stdout)["step"] > 0


class Looks(muster.JobTest):
    def test_of_status_go_on_while_the_coordinator_is_away(self):
        job = self.job("digits", ("--steps", 10_000_000), workers=2)
        job.wait_world(2)
        os.kill(job.coordinator(), signal.SIGSTOP)
        started = time.monotonic()
        self.assertEqual(job.status()["world_size"], 2)
        self.assertLess(time.monotonic() - started, 1 * muster.SCALE)
        os.kill(job.coordinator(), signal.SIGCONT)
        job.stop()
        job.finished()

    def test_of_logs_choose_ranks_and_workers(self):
        job = self.job("digits", ("--steps", 10_000_000), workers=3)
        job.wait_world(3)
        for flags in (("--ranks", "0,2"), ("--workers", "w-0,w-2")):
            lines = self.home.launcher("logs", "job", *flags).stdout.splitlines()
            self.assertEqual({line.split(" | ")[0] for line in lines}, {"w-0", "w-2"})
        self.assertEqual(self.home.launcher("logs", "job", "--ranks", "7").returncode, 2)
        self.assertEqual(self.home.launcher("logs", "job", "--ranks", "x").returncode, 2)
        job.stop("--now")
        job.finished()

    def test_of_resize_refuse_what_cannot_be(self):
        job = self.job("digits", ("--steps", 10_000_000, "--micro-batches", 4), workers=2)
        job.wait_world(2)
        for workers, word in (("5", "micro-batches"), ("0", "workers"), ("3:2", "workers"), ("x", "workers")):
            done = self.home.launcher("resize", "job", workers)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(word, done.stderr)
        self.assertEqual(job.status()["max_workers"], 2)
        job.stop("--now")
        job.finished()
        after = self.home.launcher("resize", "job", "3")
        self.assertEqual(after.returncode, 2)
        self.assertIn("not running", after.stderr)
        self.assertEqual(self.home.json("stop", "job")["phase"], "stopped", "stopping twice is no error")


if __name__ == "__main__":
    unittest.main()
