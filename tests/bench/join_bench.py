#!/usr/bin/env python3
"""What a join costs those who train: step times without a join, during a flat one, and during a stop-and-copy one.

    tests/bench/join_bench.py [--floats 100000,1000000] [--joins 10] [--compute paced,busy] [--pace-ms 50] [--bin build/bin] [-o json]

Three workers train; a fourth joins and leaves again, several times. Every worker notes when it begins a step, so a step's time is that
between two beginnings in one worker. A step counts as one of a join if it overlaps with the time from the request to the first step
that the joiner works in. docs/benchmarks.md has the table.
"""

import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.bench import paced_steps  # noqa: E402
from tests.bench.paced_steps import milliseconds  # noqa: E402

STEADY_STEPS = 5  # between two changes
COLUMNS = {
    "parameters": lambda found: f"{found['floats']:,}",
    "compute": lambda found: found["compute"],
    "join": lambda found: found["join"],
    "steps": lambda found: str(found["steps"]),
    "median": lambda found: milliseconds(found["median"]),
    "longest": lambda found: milliseconds(found["longest"]),
    "longest of a join: median": lambda found: milliseconds(found["join_median"]),
    "worst": lambda found: f"{milliseconds(found['join_longest'])} ({found['join_longest'] / found['median']:.2f} x)",
    "the join takes": lambda found: f"{found['join_takes']:.2f} s",
}


def parse():
    parser = paced_steps.parser(__doc__)
    parser.add_argument("--joins", type=int, default=10, help="of each kind")
    parser.add_argument("--joining", default="flat,plain")
    parser.add_argument("--check", action="store_true", help="compare the weights with those of a run without a join")
    return parser.parse_args()


def first_steps(folder, known):
    """The files of workers that have come since `known`, once they have begun a step."""
    return [path for path in folder.iterdir() if path.name not in known and path.stat().st_size > 0]


class JoinBench:
    def __init__(self, muster, options):
        self.muster = muster
        self.options = options

    def measure(self, row):
        home = self.muster.Home()
        job, times = paced_steps.start(self.muster, home, self.options, row, 10_000_000, environment={"MUSTER_JOIN": row["join"]})
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
            found = self.figures([step for step in paced_steps.steps_of(times) if step[2] > steady], joins, leaves, events)
            if self.options.check:
                self.check(home, row["floats"], job.objects()[-1])
        finally:
            home.close(check=False)
        return row | found

    def check(self, home, floats, finished):
        """The same program alone, to the same step."""
        home.environment["PACED_FLOATS"] = str(floats)
        alone = home.by_hand(self.muster.PACED, "--steps", finished["step"], "--micro-batches", paced_steps.MICRO_BATCHES, "--batch-size", 1,
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
    bench = JoinBench(paced_steps.harness(options), options)
    table = paced_steps.Table(options, COLUMNS)
    for row in paced_steps.rows(options):
        for joining in options.joining.split(","):
            found = bench.measure(row | {"join": joining})
            table.add(found)
            if options.output == "text":
                for message in sorted(set(found["said"]))[:3]:
                    print(f"  {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
