#!/usr/bin/env python3
"""What a join costs those who train: step times without a join, during a flat one, and during a stop-and-copy one.

    tests/bench/join_bench.py [--floats 100000,1000000] [--joins 10] [--compute paced,busy] [--pace-ms 50] [--bin build/bin] [-o json]

Three workers train; a fourth joins and leaves again, several times. Every worker notes when it begins a step, so a step's time is that
between two beginnings in one worker. A step counts as one of a join if it overlaps with the time from the request to the first step
that the joiner works in. docs/benchmarks.md has the table.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MICRO_BATCHES = 5  # so that some worker has two of them with three workers and with four
STEADY_STEPS = 5  # between two changes
# A micro-batch that is paced waits, as for an accelerator; one that is busy computes.
KNOBS = {"paced": "PACED_MS", "busy": "PACED_BUSY_MS"}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floats", default="100000,1000000,10000000", help="parameters of the model")
    parser.add_argument("--joins", type=int, default=10, help="of each kind")
    parser.add_argument("--compute", default="paced,busy")
    parser.add_argument("--pace-ms", type=int, default=50, help="of one micro-batch")
    parser.add_argument("--joining", default="flat,plain")
    parser.add_argument("--check", action="store_true", help="compare the weights with those of a run without a join")
    parser.add_argument("--bin", default=str(ROOT / "build" / "bin"))
    parser.add_argument("-o", dest="output", choices=("text", "json"), default="text")
    return parser.parse_args()


def steps_of(folder):
    """(worker, step, begin, end) of every step that some worker has begun and ended."""
    for path in folder.iterdir():
        begun = [line.split() for line in path.read_text().splitlines()]
        for (step, begin), (next_step, end) in zip(begun, begun[1:]):
            if int(next_step) == int(step) + 1:
                yield path.name, int(step), float(begin), float(end)


def first_steps(folder, known):
    """The files of workers that have come since `known`, once they have begun a step."""
    return [path for path in folder.iterdir() if path.name not in known and path.stat().st_size > 0]


class JoinBench:
    def __init__(self, muster, options):
        self.muster = muster
        self.options = options

    def measure(self, floats, compute, joining):
        home = self.muster.Home()
        times = pathlib.Path(tempfile.mkdtemp(dir=home.root))
        stop_at = 10_000_000
        arguments = ("--steps", stop_at, "--micro-batches", MICRO_BATCHES, "--batch-size", 1)
        job = self.muster.Job(home, self.muster.PACED, arguments, workers=3, name="join", flags=(),
                              environment={KNOBS[compute]: str(self.options.pace_ms), "PACED_FLOATS": str(floats), "PACED_TIMES": str(times),
                                           "MUSTER_JOIN": joining})
        try:
            job.wait_world(3)
            joins, leaves = [], []
            job.wait_step(job.step + STEADY_STEPS, 600)
            steady = time.monotonic()
            for _ in range(self.options.joins):
                known = {path.name for path in times.iterdir()}
                begin = time.monotonic()
                job.resize(4)
                self.muster.wait_until(lambda: first_steps(times, known), 600, "the joiner's first step", job.explain)
                joins.append((begin, time.monotonic()))
                job.wait_step(job.step + STEADY_STEPS, 600)
                begin = time.monotonic()
                job.resize(3)
                job.wait_world(3)
                leaves.append((begin, time.monotonic()))
                job.wait_step(job.step + STEADY_STEPS, 600)
            events = job.events()
            job.stop()
            job.wait_exit(600)
            found = self.figures([step for step in steps_of(times) if step[2] > steady], joins, leaves, events)
            if self.options.check:
                self.check(home, floats, job.objects()[-1])
        finally:
            home.close(check=False)
        return found

    def check(self, home, floats, finished):
        """The same program alone, to the same step."""
        home.environment["PACED_FLOATS"] = str(floats)
        alone = home.by_hand(self.muster.PACED, "--steps", finished["step"], "--micro-batches", MICRO_BATCHES, "--batch-size", 1,
                             seconds=3600)
        assert alone["weights"] == finished["weights"], f"{finished} after joins, {alone} without"

    def figures(self, steps, joins, leaves, events):
        def overlaps(step, window):
            return step[2] < window[1] and step[3] > window[0]
        quiet = [step[3] - step[2] for step in steps if not any(overlaps(step, w) for w in joins + leaves)]
        of_joins = [max((s[3] - s[2] for s in steps if overlaps(s, window)), default=0) for window in joins]
        said = [event["message"] for event in events if event["kind"] in ("join-slow", "caught-up")]
        return {
            "steps": len(quiet),
            "median": statistics.median(quiet),
            "longest": max(quiet),
            "join_median": statistics.median(of_joins),
            "join_longest": max(of_joins),
            "join_takes": statistics.median(end - begin for begin, end in joins),
            "said": said,
        }


def main():
    options = parse()
    os.environ["MUSTER_BIN"] = options.bin
    from tests.harness import muster  # it reads MUSTER_BIN when it is loaded
    bench = JoinBench(muster, options)
    if options.output == "text":
        print("| parameters | compute | join | steps | median | longest | longest of a join: median | worst | the join takes |\n"
              "|---|---|---|---|---|---|---|---|---|")
    for floats in map(int, options.floats.split(",")):
        for compute in options.compute.split(","):
            for joining in options.joining.split(","):
                found = bench.measure(floats, compute, joining) | {"floats": floats, "compute": compute, "join": joining}
                if options.output == "json":
                    print(json.dumps(found), flush=True)
                    continue
                ms = {key: f"{found[key] * 1e3:.1f} ms" for key in ("median", "longest", "join_median", "join_longest")}
                ratio = found["join_longest"] / found["median"]
                print(f"| {floats:,} | {compute} | {joining} | {found['steps']} | {ms['median']} | {ms['longest']} | "
                      f"{ms['join_median']} | {ms['join_longest']} ({ratio:.2f} x) | {found['join_takes']:.2f} s |", flush=True)
                for message in sorted(set(found["said"]))[:3]:
                    print(f"  {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
