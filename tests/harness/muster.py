"""Drives real jobs for tests: a Home is one MUSTER_HOME with all that runs in it, a Job is one `launcher run -o json`.

    MUSTER_BIN                  folder with the binaries (default: build/bin of this tree)
    MUSTER_TEST_TIMEOUT_SCALE   factor for every deadline (sanitizer builds: 4)
    MUSTER_TEST_DEVICE          what all jobs train on (cuda: GPUs, or the stand-ins that MUSTER_LIBCUDA and others name)
    MUSTER_TEST_SEED            seed of the random moments and victims (default: a new one, which is printed)

Every wait has a deadline, and when it passes, tells what the job had said so far. Home.close() proves that nothing is left.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from tests.harness import processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MUSTER_BIN") or ROOT / "build" / "bin").absolute()
LAUNCHER = str(BIN / "launcher")
PACED = BIN.parent / "tests" / "paced_program"
DEVICE = os.environ.get("MUSTER_TEST_DEVICE")
KEPT = ("MUSTER_HOME", "MUSTER_JOIN", "MUSTER_LIBCUDA", "MUSTER_LIBNCCL", "MUSTER_LIBCUBLAS", "MUSTER_STANDIN_PTX")
SCALE = float(os.environ.get("MUSTER_TEST_TIMEOUT_SCALE") or 1)
SEED = int(os.environ.get("MUSTER_TEST_SEED") or random.SystemRandom().randrange(1 << 32))


class Late(AssertionError):
    """A wait has passed its deadline."""


def wait_until(condition, seconds, what, explain=lambda: ""):
    """The first true value of `condition()`; Late after `seconds` (scaled)."""
    deadline = time.monotonic() + seconds * SCALE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Late(f"waited {seconds * SCALE:.0f} s for {what}\n{explain()}")
        time.sleep(0.01)


class Home:
    """A MUSTER_HOME of its own, with a TMPDIR of its own in which nothing may be left."""

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="muster-test-"))
        self.path = self.root / "home"
        self.temporary = self.root / "tmp"
        self.work = self.root / "work"
        self.temporary.mkdir()
        self.work.mkdir()
        self.shared_before = processes.shared_memory()  # of a test that was killed, say
        self.environment = {**os.environ, "MUSTER_HOME": str(self.path), "TMPDIR": str(self.temporary)}
        # How joiners get the state may be chosen for a whole test: MUSTER_JOIN=flat tests/process/kills_test.py.
        for name in [name for name in self.environment if name.startswith("MUSTER_") and name not in KEPT]:
            del self.environment[name]
        if DEVICE:  # several workers on one GPU, a health check of milliseconds
            self.environment |= {"MUSTER_DEVICE": DEVICE, "MUSTER_GPU_CHECK": "brief", "NCCL_MULTI_RANK_GPU_ENABLE": "1"}

    def launcher(self, *arguments, seconds=30, **options):
        """Runs a verb to its end; the completed process, with text output."""
        options = {"capture_output": True, "stdin": subprocess.DEVNULL, "cwd": self.work, **options}
        return subprocess.run([LAUNCHER, *map(str, arguments)], env=self.environment, text=True,
                              timeout=seconds * SCALE, **options)

    def json(self, *arguments, seconds=30):
        """The object that a verb prints with -o json; AssertionError if it fails."""
        done = self.launcher(*arguments, "-o", "json", seconds=seconds)
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def run_tool(self, *command, seconds=120):
        """Runs a program that must succeed."""
        done = subprocess.run([*map(str, command)], env=self.environment, cwd=self.work, capture_output=True, text=True,
                              timeout=seconds * SCALE, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr}"

    def by_hand(self, program, *arguments, seconds=120):
        """Runs a training program without the launcher; its `finished` object."""
        done = subprocess.run([program_path(program), *map(str, arguments)], env=self.environment, cwd=self.work,
                              capture_output=True, text=True, timeout=seconds * SCALE, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    def processes(self, role=None):
        return [p for p in processes.of_home(self.root) if role is None or p.role == role]

    def assert_nothing_left(self, seconds=10):
        wait_until(lambda: not self.processes(), seconds, "all processes of the home to end",
                   lambda: "\n".join(map(str, self.processes())))
        left = sorted(str(p.relative_to(self.root)) for p in self.temporary.rglob("*"))
        assert not left, f"left in TMPDIR: {left}"
        half = [str(p.relative_to(self.root)) for p in self.path.rglob("*")
                if ".tmp" in p.name or (p.parent.name == "jobs" and p.name.startswith("."))]
        assert not half, f"half-written files: {half}"
        shared = processes.shared_memory() - self.shared_before
        assert not shared, f"left in /dev/shm: {shared}"

    def assert_no_sanitizer_spoke(self):
        """In a process that was about to end anyway, a report of a sanitizer would change no outcome."""
        for path in [*self.root.glob("*.stderr"), *self.path.glob("jobs/*/logs/*")]:
            text = path.read_text(errors="replace")
            for word in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", ": runtime error: "):
                at = text.find(word)
                assert at < 0, f"{path.name}: {text[max(0, at - 200):at + 6000]}"

    def close(self, check=True):
        try:
            if check:
                self.assert_nothing_left()
                self.assert_no_sanitizer_spoke()
        finally:
            self.kill_all()
            if not os.environ.get("MUSTER_TEST_KEEP"):
                shutil.rmtree(self.root, ignore_errors=True)

    def kill_all(self):
        """Whatever still runs in this home, without politeness."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                send(process.pid, signal.SIGKILL)
            time.sleep(0.01)


def program_path(program):
    """A program of the build by its name, or any other by its path."""
    return str(program) if os.sep in str(program) else str(BIN / program)


def send(pid, number):
    """Whether there was a process to send the signal to."""
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


class Job:
    """`launcher run -o json ... -- PROGRAM ARGS`, followed by a thread that reads its lines. Without `workers` the flags say how many."""

    def __init__(self, home, program="digits", arguments=(), workers=4, name="job", flags=(), environment=None,
                 detach=False):
        self.home = home
        self.name = name
        self.folder = home.path / "jobs" / name
        command = [LAUNCHER, "run", "--name", name, *(["--workers", str(workers)] if workers else []),
                   *(["--device", DEVICE] if DEVICE else []), *map(str, flags),
                   *(["--detach"] if detach else []), "-y", "-o", "json", "--", program_path(program),
                   *map(str, arguments)]
        self.command = command
        self.lines = []  # (monotonic time, object), in order
        self.not_json = []
        self._changed = threading.Condition()
        self.errors = (home.root / f"{name}.stderr").open("w+")
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, env={**home.environment, **(environment or {})}, cwd=home.work,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, process_group=0)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            try:
                parsed = json.loads(line)
            except ValueError:
                parsed = None
            with self._changed:
                if isinstance(parsed, dict):
                    self.lines.append((time.monotonic(), parsed))
                else:
                    self.not_json.append(line)
                self._changed.notify_all()

    def close(self):
        """Once nothing of the job runs any more."""
        self.process.wait(10)
        self._reader.join(10)
        self.process.stdout.close()
        self.errors.close()

    # --- What it has said ---

    def objects(self):
        with self._changed:
            return [parsed for _, parsed in self.lines]

    def last(self, key, otherwise=None):
        """The newest value of `key` that any line had."""
        return next((line[key] for line in reversed(self.objects()) if line.get(key) is not None), otherwise)

    @property
    def step(self):
        return max((line["step"] for line in self.objects() if isinstance(line.get("step"), int)), default=0)

    def stderr(self):
        self.errors.flush()
        return pathlib.Path(self.errors.name).read_text(errors="replace")

    def explain(self):
        """What a person needs who has only the log of the failed test."""
        logs = ""
        for path in sorted((self.folder / "logs").glob("*.log")):
            text = path.read_text(errors="replace").splitlines()
            logs += f"--- {path.name}\n" + "\n".join(text[-15:]) + "\n"
        said = "\n".join(json.dumps(line) for line in self.objects()[-12:])
        return (f"seed {SEED}\ncommand {' '.join(self.command)}\nexit code {self.process.poll()}\n--- its last lines\n"
                f"{said}\n--- stderr\n{self.stderr()[-3000:]}\n{logs}")

    # --- Waits ---

    def _wait(self, condition, seconds, what):
        """As wait_until, woken by every line; the end of the launcher ends it too."""
        deadline = time.monotonic() + seconds * SCALE
        with self._changed:
            while True:
                value = condition()
                if value:
                    return value
                ended = self.process.poll() is not None and not self._reader.is_alive()
                if ended or time.monotonic() > deadline:
                    break
                self._changed.wait(0.02)
        reason = "the launcher ended before" if ended else f"waited {seconds * SCALE:.0f} s for"
        raise Late(f"{reason} {what}\n{self.explain()}")

    def wait_step(self, step, seconds=60):
        """Until `step` steps are committed."""
        self._wait(lambda: self.step >= step, seconds, f"step {step} (now at {self.step})")

    def wait_event(self, kind, seconds=60, after=0, **fields):
        """The first line from number `after` on whose kind is `kind` and which has `fields`."""
        def found():
            return next((line for _, line in self.lines[after:] if line.get("kind") == kind
                         and all(line.get(key) == value for key, value in fields.items())), None)
        return self._wait(found, seconds, f"event {kind} {fields or ''}")

    def wait_world(self, size, seconds=60):
        """Until the job trains with `size` workers; their {id: pid}."""
        def there():
            if self.process.poll() not in (None, 0) or self.last("phase") in ("succeeded", "failed", "stopped"):
                raise Late(f"the job ended before it had {size} workers\n{self.explain()}")
            done = self.home.launcher("status", self.name, "-o", "json")
            if done.returncode != 0:  # the job has no folder yet
                return False
            status = json.loads(done.stdout)
            members = {w["id"]: w["pid"] for w in status["workers"] if w["state"] == "training"}
            ready = status["world_size"] == size == len(members) and status["phase"] == "running"
            # Right after a death the status may be older than it.
            return ready and all(processes.is_alive(pid) for pid in members.values()) and members
        return wait_until(there, seconds, f"{size} workers", self.explain)

    def wait_exit(self, seconds=120):
        """The exit code of the launcher."""
        try:
            code = self.process.wait(seconds * SCALE)
        except subprocess.TimeoutExpired:
            raise Late(f"waited {seconds * SCALE:.0f} s for the job to end\n{self.explain()}") from None
        self._reader.join(10)
        assert not self.not_json, f"not JSON on stdout: {self.not_json[:3]}"
        return code

    def finished(self, seconds=120, code=0):
        """The last object of the job, once its launcher has ended with `code`."""
        ended = self.wait_exit(seconds)
        assert ended == code, f"exit code {ended}, not {code}\n{self.explain()}"
        last = self.objects()[-1] if self.objects() else {}
        assert last.get("event") == "finished", f"the last line is no finished object\n{self.explain()}"
        return last

    # --- Verbs and faults ---

    def status(self):
        return self.home.json("status", self.name)

    def events(self):
        done = self.home.launcher("events", self.name, "-o", "json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def workers(self):
        """{id: pid} of the workers that have a process."""
        return {w["id"]: w["pid"] for w in self.status()["workers"] if w["pid"] and processes.is_alive(w["pid"])}

    def kill_worker(self, worker, number=signal.SIGKILL):
        """Sends a signal to worker "w-1", or to a pid; whether it was there."""
        return send(worker if isinstance(worker, int) else self.workers().get(worker, 0) or (1 << 22) + 1, number)

    def coordinator(self):
        return next((p.pid for p in self.home.processes("coordinator") if str(self.folder) in p.command), None)

    def agents(self):
        """{slot: pid}"""
        return {p.slot: p.pid for p in self.home.processes("agent") if str(self.folder) in p.command}

    def resize(self, workers):
        done = self.home.launcher("resize", self.name, workers)
        assert done.returncode == 0, f"resize {workers}: {done.returncode} {done.stderr}\n{self.explain()}"

    def stop(self, *flags):
        done = self.home.launcher("stop", self.name, *flags)
        assert done.returncode == 0, f"stop: {done.returncode} {done.stderr}\n{self.explain()}"

    def ledger(self):
        """What `launcher ledger` proves, and its exit code."""
        done = self.home.launcher("ledger", self.name, "-o", "json")
        return json.loads(done.stdout), done.returncode


class JobTest(unittest.TestCase):
    """A test with a home of its own, which is empty of processes afterwards."""

    @classmethod
    def setUpClass(cls):
        print(f"MUSTER_TEST_SEED={SEED}  # {cls.__name__}", file=sys.stderr, flush=True)

    def setUp(self):
        self.random = random.Random(f"{SEED} {self.id().split('.', 1)[-1]}")
        self.home = Home()
        self.addCleanup(self._close)
        self._jobs = []

    def _close(self):
        result = self._outcome.result
        failed = any(getattr(test, "test_case", test) is self for test, _ in result.failures + result.errors)
        try:
            self.home.close(check=not failed)
        finally:
            for job in self._jobs:
                job.close()

    def job(self, *arguments, **options):
        job = Job(self.home, *arguments, **options)
        self._jobs.append(job)
        return job

    def paced(self, steps=3000, workers=3, ms=4, environment=None, **options):
        """A job of tests/process/paced_program.cc, slow until hurry(): it cannot end before the test has done its worst."""
        slow = self.home.root / "slow"
        slow.touch()
        knobs = {"PACED_MS": str(ms), "PACED_SLOW_FILE": str(slow), **(environment or {})}
        return self.job(PACED, self.paced_arguments(steps), workers=workers, environment=knobs, **options)

    @staticmethod
    def paced_arguments(steps=3000):
        return ("--steps", steps, "--micro-batches", 12, "--batch-size", 5)

    def hurry(self):
        (self.home.root / "slow").unlink()

    def paced_alone(self, steps=3000):
        """What the paced program finds when nothing disturbs it."""
        return self.home.by_hand(PACED, *self.paced_arguments(steps))

    def pause(self, low, high):
        """A random moment: faults must not come in step with the job."""
        time.sleep(self.random.uniform(low, high))

    def assert_same_result(self, finished, expected):
        for key in ("weights", "step", "samples_consumed", "loss"):
            self.assertEqual(finished[key], expected[key], f"{key} differs; seed {SEED}; {finished}")

    def assert_ledger(self, job):
        ledger, code = job.ledger()
        self.assertTrue(ledger["ok"], f"{ledger}; seed {SEED}")
        self.assertEqual(code, 0)
        return ledger

    def assert_redone_at_most(self, deaths, job):
        """At most one step is redone per death; on a machine that is too busy, also per worker evicted for its silence."""
        redone = self.assert_ledger(job)["redone_steps"]
        evicted = sum(event["kind"] == "evicted" for event in job.events())
        self.assertLessEqual(redone, max(deaths, evicted), f"{deaths} deaths, {evicted} evictions\n{job.explain()}")

    def assert_steps_never_go_down(self, job):
        steps = [line["step"] for line in job.objects() if line.get("event") == "progress"]
        self.assertEqual(steps, sorted(steps), job.explain())
