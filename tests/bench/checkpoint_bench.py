#!/usr/bin/env python3
"""What a checkpoint costs those who train: the steps that begin with one, beside all others.

    tests/bench/checkpoint_bench.py [--floats 1000000,10000000] [--checkpoints 10] [--compute paced,busy] [--pace-ms 50] [--bin build/bin] [-o json]

Three workers train; rank 0 writes a checkpoint every ten steps. A step's time is that between its beginning and that of the next one, in
rank 0. docs/benchmarks.md has the table.
"""

import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.bench import paced_steps  # noqa: E402

EVERY = 10  # steps
OTHERS = range(4, EVERY)  # after that many steps nothing is written any more, where writing takes as long as three
COLUMNS = {
    "parameters": lambda found: f"{found['floats']:,}",
    "compute": lambda found: found["compute"],
    "written": lambda found: str(found["written"]),
    "other steps: median": lambda found: paced_steps.milliseconds(found["median"]),
    "longest": lambda found: paced_steps.milliseconds(found["longest"]),
    "steps that begin with a checkpoint: median": lambda found: (f"{paced_steps.milliseconds(found['saving_median'])} "
                                                                 f"({found['saving_median'] / found['median']:.2f} x)"),
    "their longest": lambda found: paced_steps.milliseconds(found["saving_longest"]),
}


def parse():
    parser = paced_steps.parser(__doc__)
    parser.add_argument("--checkpoints", type=int, default=10)
    return parser.parse_args()


def measure(muster, options, row):
    home = muster.Home()
    steps = EVERY * (options.checkpoints + 2)  # the first one gets its memory, the last one is written when training has ended
    job, times = paced_steps.start(muster, home, options, row, steps,
                                   flags=("--checkpoint", home.root / "saved", "--checkpoint-every", EVERY))
    try:
        job.wait_exit(3600)
        written = sum(event["kind"] == "checkpoint" for event in job.events())
        took = [(step, end - begin) for worker, step, begin, end in paced_steps.steps_of(times)
                if worker.startswith("w-0.") and step >= 2 * EVERY]
    finally:
        home.close(check=False)
    saving = [seconds for step, seconds in took if step % EVERY == 0]
    others = [seconds for step, seconds in took if step % EVERY in OTHERS]
    return {**row, "written": written, "median": statistics.median(others), "longest": max(others),
            "saving_median": statistics.median(saving), "saving_longest": max(saving)}


def main():
    options = parse()
    muster = paced_steps.harness(options)
    table = paced_steps.Table(options, COLUMNS)
    for row in paced_steps.rows(options):
        table.add(measure(muster, options, row))


if __name__ == "__main__":
    main()
