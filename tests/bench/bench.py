#!/usr/bin/env python3
"""Measures what docs/benchmarks.md defines, with the release build, and prints its tables as Markdown.

    tests/bench/bench.py [--only kill,start,status,exact,workers,collectives] [--kills 60] [--bin build/bin] [--seed 1]

The words, and what each number includes, are on that page; the code here follows it.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PHASES = ("detect_ms", "agree_ms", "connect_ms", "state_ms", "resume_ms")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="kill,start,status,exact,workers,collectives")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--runs", type=int, default=15, help="of each short measurement")
    parser.add_argument("--bin", default=str(ROOT / "build" / "bin"))
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def percentile(values, share):
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def row(name, values, unit="ms"):
    return (f"| {name} | {len(values)} | {statistics.median(values):.1f} {unit} | {percentile(values, 0.9):.1f} {unit} | "
            f"{percentile(values, 0.99):.1f} {unit} | {max(values):.1f} {unit} |")


HEAD = "| what | count | median | 90 % | 99 % | max |\n|---|---|---|---|---|---|"


class LedgerWatch:
    """Sees commits from outside: the first line of a worker for step s + 1 is proof that step s is committed."""

    def __init__(self, folder):
        self.folder = folder
        self.offsets = {}

    def lines(self):
        """(generation, step) of each line that is new since the last call."""
        for entry in os.scandir(self.folder):
            offset = self.offsets.get(entry.name, 0)
            if entry.stat().st_size == offset:
                continue
            with open(entry.path, "rb") as file:
                file.seek(offset)
                content = file.read()
            content = content[:content.rfind(b"\n") + 1]
            self.offsets[entry.name] = offset + len(content)
            for line in content.splitlines():
                found = re.match(rb'\{"step":(\d+),"generation":(\d+),', line)
                if found:
                    yield int(found.group(2)), int(found.group(1))


class Bench:
    def __init__(self, muster, options):
        self.muster = muster
        self.options = options
        self.random = random.Random(options.seed)

    def job(self, home, *arguments, **options):
        return self.muster.Job(home, "digits", arguments, **options)

    def end(self, home, job):
        job.stop("--now")
        job.wait_exit()
        job.close()
        home.close()

    def kill(self):
        """From kill(2) to the next committed step, 4 workers of digits."""
        home = self.muster.Home()
        job = self.job(home, "--steps", 10_000_000, workers=4)
        job.wait_world(4)
        watch = LedgerWatch(job.folder / "ledger")
        outside = []
        while len(outside) < self.options.kills:
            job.wait_world(4)
            time.sleep(self.random.uniform(0.05, 0.3))
            pid = self.random.choice(sorted(job.workers().values()))
            old = max(generation for generation, _ in watch.lines())
            started = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            outside.append(self.next_commit(watch, old, started) * 1e3)
        events = [e for e in job.events() if e["kind"] == "membership" and len(e["members_after"]) < 4]
        print("### From `kill -9` of a worker to the next committed step\n")
        print(HEAD)
        print(row("from outside: kill(2) to the first commit in the new generation", outside))
        events = [e for e in events if len(e["members_before"]) == 4]
        print(row("sum of the phases below, by `launcher events`",
                  [sum(max(0, e[phase]) for phase in PHASES) for e in events]))
        for phase in PHASES:
            print(row(f"{phase.removesuffix('_ms')}", [max(0, e[phase]) for e in events]))
        self.end(home, job)

    def next_commit(self, watch, old, started):
        """Seconds until a step is committed in a generation after `old`."""
        first = None
        while time.monotonic() - started < 60:
            for generation, step in watch.lines():
                if generation <= old:
                    continue
                first = step if first is None else first
                if step > first:
                    return time.monotonic() - started
            time.sleep(0.0002)
        raise AssertionError("no step within 60 s of a kill")

    def start(self):
        """From exec of `launcher run` to the first committed step."""
        times = {workers: [] for workers in (1, 4)}
        for _ in range(self.options.runs):
            for workers, list_of in times.items():
                home = self.muster.Home()
                (folder := home.path / "jobs" / "job" / "ledger")
                started = time.monotonic()
                job = self.job(home, "--steps", 10_000_000, workers=workers)
                while not folder.is_dir():
                    time.sleep(0.0002)
                list_of.append(self.next_commit(LedgerWatch(folder), 0, started) * 1e3)
                self.end(home, job)
        print("### From `launcher run` to the first committed step\n")
        print(HEAD)
        for workers, values in times.items():
            print(row(f"digits, {workers} workers", values))

    def status(self):
        """Wall-clock of the whole process `launcher status -o json` while 4 workers train."""
        home = self.muster.Home()
        job = self.job(home, "--steps", 10_000_000, workers=4)
        job.wait_world(4)
        values = []
        for _ in range(max(50, self.options.runs)):
            time.sleep(0.02)
            started = time.monotonic()
            job.status()
            values.append((time.monotonic() - started) * 1e3)
        print("### `launcher status -o json` while a job trains\n")
        print(HEAD)
        print(row("digits, 4 workers", values))
        self.end(home, job)

    def step_ms(self, workers, steps, *flags, arguments=()):
        """Milliseconds a step, between two moments of one run, by the launcher's own lines."""
        home = self.muster.Home()
        job = self.job(home, "--steps", steps, *arguments, workers=workers, flags=flags)
        job.finished(600)
        points = [(at, line["step"]) for at, line in job.lines if line.get("event") == "progress" and line["step"] > 0]
        job.close()
        home.close()
        (first_at, first), (last_at, last) = points[0], points[-1]
        return 1e3 * (last_at - first_at) / (last - first)

    def exact(self):
        """Exact against float sums, alternating, whole steps."""
        print("### A whole step with exact sums, against float32 sums\n")
        print("| digits | runs each | exact, median | float, median | ratio |\n|---|---|---|---|---|")
        for workers, batch in ((1, 16), (2, 16), (2, 256)):
            steps = 4000 if batch == 16 else 500
            times = {"exact": [], "float": []}
            for _ in range(max(5, self.options.runs // 3)):
                for reduce in times:
                    times[reduce].append(self.step_ms(workers, steps, "--reduce", reduce,
                                                      arguments=("--batch-size", batch)))
            exact, plain = (statistics.median(times[reduce]) for reduce in ("exact", "float"))
            print(f"| {workers} workers, {batch} samples a micro-batch | {len(times['exact'])} | {exact:.2f} ms | "
                  f"{plain:.2f} ms | {exact / plain:.2f} |")

    def workers(self):
        """Step time by the number of workers."""
        print("### Step time by the number of workers\n")
        print(f"| workers ({os.cpu_count()} cores) | 16 samples a micro-batch | 256 samples a micro-batch |\n|---|---|---|")
        for workers in (1, 2, 4, 8):
            small = statistics.median(self.step_ms(workers, 3000) for _ in range(3))
            large = statistics.median(self.step_ms(workers, 400, arguments=("--batch-size", 256)) for _ in range(3))
            print(f"| {workers} | {small:.2f} ms | {large:.2f} ms |")

    def collectives(self):
        """Runs the collectives' own benchmark where the build has it."""
        print("### All-reduce\n")
        programs = sorted(pathlib.Path(self.options.bin).parent.rglob("*_bench"))
        if not programs:
            print("(no benchmark program in this build)")
        for program in programs:
            done = subprocess.run([program], capture_output=True, text=True, timeout=600)
            print(f"`{program.name}`, exit code {done.returncode}:\n```\n{done.stdout.strip()}\n```")


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)) / (1 << 20)
    return (f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
            f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f} at the start")


def main():
    options = parse()
    os.environ["MUSTER_BIN"] = options.bin
    from tests.harness import muster  # reads MUSTER_BIN
    version = json.loads(subprocess.run([muster.LAUNCHER, "version", "-o", "json"], capture_output=True).stdout)["version"]
    print(f"Machine: {machine()}. Command: `tests/bench/bench.py {' '.join(sys.argv[1:])}`, muster {version}, "
          f"{time.strftime('%Y-%m-%d')}.\n")
    bench = Bench(muster, options)
    for name in options.only.split(","):
        getattr(bench, name)()
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
