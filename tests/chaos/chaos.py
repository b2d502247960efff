#!/usr/bin/env python3
"""Random faults against real jobs, for a while; then the bits are compared with those of an undisturbed run.

    tests/chaos/chaos.py --seconds 600 --seed 7 [--bin build/bin] [--workers 4]

A job trains digits; another one follows when it has ended, until the time is up. Faults and their moments come from the seed
(what the machine does between them does not). After every job: the same weights, losses and samples as one process alone,
the ledger proven, the step never lower than before, no process left. Exit code 1 on the first difference, with what to look at.
"""

import argparse
import collections
import os
import pathlib
import random
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SHAPE = ("--micro-batches", 12, "--batch-size", 128)
MOST_WORKERS = 8
HEARTBEAT_MS = 1000
STUCK_SECONDS = 60


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--bin", default=str(ROOT / "build" / "bin"), help="folder with launcher and digits")
    parser.add_argument("--workers", type=int, default=4, help="at the start of a job")
    return parser.parse_args()


class Chaos:
    def __init__(self, muster, options):
        self.muster = muster
        self.options = options
        self.random = random.Random(options.seed)
        self.counts = collections.Counter()
        self.recoveries = []  # milliseconds, of unplanned changes
        self.redone = 0
        self.deaths = 0  # of members, or what looks like one
        self.stopped = []  # (when to continue, pid)
        self.faults = [(8, self.kill_one), (4, self.kill_two), (2, self.kill_all_but_one), (1, self.kill_all),
                       (3, self.kill_agent), (4, self.kill_coordinator), (3, self.stop_worker_briefly),
                       (3, self.stop_worker_for_long), (2, self.stop_coordinator), (6, self.resize), (2, self.crash)]

    # --- Faults. Each is one thing that happens on real machines; several may happen at once. ---

    def signal_workers(self, choose, number):
        workers = list(self.job.workers().values())
        for pid in choose(workers):
            self.deaths += self.job.kill_worker(pid, number)

    def kill_one(self):
        self.signal_workers(lambda pids: self.random.sample(pids, min(1, len(pids))), signal.SIGKILL)

    def kill_two(self):
        self.signal_workers(lambda pids: self.random.sample(pids, min(2, len(pids) - 1)) if pids else [], signal.SIGKILL)

    def kill_all_but_one(self):
        self.signal_workers(lambda pids: pids[1:], signal.SIGKILL)

    def kill_all(self):
        self.signal_workers(lambda pids: pids, signal.SIGKILL)

    def crash(self):
        self.signal_workers(lambda pids: self.random.sample(pids, min(1, len(pids))), signal.SIGABRT)

    def kill_agent(self):
        agents = list(self.job.agents().values())
        if agents:
            self.deaths += self.muster.send(self.random.choice(agents), signal.SIGKILL)

    def kill_coordinator(self):
        if coordinator := self.job.coordinator():
            self.muster.send(coordinator, signal.SIGKILL)

    def stop_for(self, pid, seconds):
        if pid and self.muster.send(pid, signal.SIGSTOP):
            self.stopped.append((time.monotonic() + seconds, pid))

    def stop_worker(self, low, high):
        workers = list(self.job.workers().values())
        if workers:
            self.deaths += 1
            self.stop_for(self.random.choice(workers), self.random.uniform(low, high))

    def stop_worker_briefly(self):
        self.stop_worker(0.01, 0.5 * HEARTBEAT_MS / 1e3)

    def stop_worker_for_long(self):
        self.stop_worker(1.2 * HEARTBEAT_MS / 1e3, 3 * HEARTBEAT_MS / 1e3)

    def stop_coordinator(self):
        self.stop_for(self.job.coordinator(), self.random.uniform(0.05, 3))

    def resize(self):
        self.home.launcher("resize", self.job.name, self.random.randint(1, MOST_WORKERS))  # the job may be ending

    def fault(self):
        number = self.random.choices((1, 2, 3), (8, 2, 1))[0]
        for method in self.random.choices([m for _, m in self.faults], [w for w, _ in self.faults], k=number):
            self.counts[method.__name__] += 1
            method()
        return self.random.choice((0.02, 0.1, self.random.expovariate(1 / 0.8)))

    # --- Jobs ---

    def continue_stopped(self, everything=False):
        for moment, pid in list(self.stopped):
            if everything or time.monotonic() >= moment:
                self.stopped.remove((moment, pid))
                self.muster.send(pid, signal.SIGCONT)

    def disturb(self, until):
        """Faults until the job has ended; none after `until`."""
        next_fault = time.monotonic() + self.random.uniform(0.2, 1)
        progress = (time.monotonic(), -1)
        while self.job.process.poll() is None:
            self.continue_stopped(everything=time.monotonic() > until)
            if next_fault <= time.monotonic() < until:
                next_fault = time.monotonic() + self.fault()
            if self.job.step != progress[1]:
                progress = (time.monotonic(), self.job.step)
            if time.monotonic() - progress[0] > STUCK_SECONDS * self.muster.SCALE:
                raise AssertionError(f"no step for {STUCK_SECONDS} s\n{self.job.explain()}")
            time.sleep(0.005)
        self.stopped.clear()

    def one_job(self, number, steps, until):
        self.home = self.muster.Home()
        try:
            arguments = ("--steps", steps, *SHAPE, "--seed", self.options.seed)
            flags = ("--heartbeat-timeout-ms", HEARTBEAT_MS, "--checkpoint", self.home.work / "ckpt",
                     "--checkpoint-every", max(1, steps // 20))
            self.job = self.muster.Job(self.home, "digits", arguments, workers=self.options.workers, flags=flags,
                                       name=f"chaos-{number}")
            self.deaths = 0
            self.disturb(until)
            self.check(self.job.finished())
            self.home.assert_nothing_left()
        finally:
            self.continue_stopped(everything=True)
            self.home.close(check=False)
            self.job.close()

    def check(self, finished):
        explain = f"{finished}\nexpected {self.expected}\n{self.job.explain()}"
        for key in ("phase", "weights", "step", "loss", "samples_consumed"):
            assert finished[key] == self.expected[key], f"{key} differs: {explain}"
        ledger, code = self.job.ledger()
        assert ledger["ok"] and code == 0, f"the ledger is not proven: {ledger}\n{self.job.explain()}"
        steps = [line["step"] for line in self.job.objects() if line.get("event") == "progress"]
        events = self.job.events()
        if not any(event["kind"] == "all-lost" for event in events):  # then it began again from a checkpoint
            assert steps == sorted(steps), f"the step went down: {self.job.explain()}"
            assert ledger["redone_steps"] <= self.deaths, f"{ledger} after {self.deaths} deaths"
        self.redone += ledger["redone_steps"]
        for event in events:
            if event["kind"] == "membership" and event["agree_ms"] > 0:
                phases = ("detect_ms", "agree_ms", "connect_ms", "state_ms", "resume_ms")
                self.recoveries.append(sum(max(0, event[phase]) for phase in phases))

    def run(self):
        until = time.monotonic() + self.options.seconds
        home = self.muster.Home()
        probe = home.by_hand("digits", "--steps", 100, *SHAPE, "--seed", self.options.seed)
        # Alone, a run takes a tenth of the time there is, at most half a minute; with faults, a few times that.
        steps = int(100 * min(30, self.options.seconds / 10) / probe["seconds"])
        self.expected = home.by_hand("digits", "--steps", steps, *SHAPE, "--seed", self.options.seed)
        home.close()
        print(f"{steps} steps a job, {self.expected['seconds']:.1f} s alone, weights {self.expected['weights']}", flush=True)
        jobs = 0
        while jobs == 0 or time.monotonic() < until - 2 * self.expected["seconds"]:
            before = sum(self.counts.values())
            started = time.monotonic()
            self.one_job(jobs, steps, until)
            jobs += 1
            print(f"job {jobs}: {sum(self.counts.values()) - before} faults, {time.monotonic() - started:.1f} s, "
                  f"same bits", flush=True)
        return jobs

    def report(self, jobs):
        print(f"{jobs} jobs with the bits of the undisturbed run; {self.redone} step computations were thrown away")
        for name, count in self.counts.most_common():
            print(f"  {count:5}  {name.replace('_', ' ')}")
        times = sorted(self.recoveries)
        if times:
            at = lambda share: times[min(len(times) - 1, int(share * len(times)))]  # noqa: E731
            print(f"recovery, first sign to next step, of {len(times)} unplanned changes: median {at(0.5):.1f} ms, "
                  f"90 % {at(0.9):.1f} ms, 99 % {at(0.99):.1f} ms, longest {times[-1]:.1f} ms")


def main():
    options = parse()
    os.environ["MUSTER_BIN"] = options.bin
    from tests.harness import muster  # reads MUSTER_BIN
    print(f"chaos: seed {options.seed}, {options.seconds:.0f} s, {options.bin}", flush=True)
    chaos = Chaos(muster, options)
    try:
        jobs = chaos.run()
    except AssertionError as error:
        print(f"FAILED after {dict(chaos.counts)}: {error}\nagain: tests/chaos/chaos.py --seconds {options.seconds:.0f} "
              f"--seed {options.seed}", flush=True)
        return 1
    chaos.report(jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
