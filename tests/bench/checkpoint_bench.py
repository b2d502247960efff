#!/usr/bin/env python3
"""What a checkpoint costs those who train: the steps that begin with one, beside all others.

    tests/bench/checkpoint_bench.py [--floats 1000000,10000000] [--checkpoints 10] [--compute paced,busy] [--pace-ms 50] [--bin build/bin] [-o json]

Three workers train; rank 0 writes a checkpoint every ten steps. A step's time is that between its beginning and that of the next one, in
rank 0. docs/benchmarks.md has the table.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.bench.join_bench import KNOBS, MICRO_BATCHES, steps_of  # noqa: E402

EVERY = 10  # steps
OTHERS = range(4, EVERY)  # after that many steps nothing is written any more, where writing takes as long as three


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floats", default="100000,1000000,10000000", help="parameters of the model")
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--compute", default="paced,busy")
    parser.add_argument("--pace-ms", type=int, default=50, help="of one micro-batch")
    parser.add_argument("--bin", default=str(ROOT / "build" / "bin"))
    parser.add_argument("-o", dest="output", choices=("text", "json"), default="text")
    return parser.parse_args()


def measure(muster, floats, compute, options):
    home = muster.Home()
    times = pathlib.Path(tempfile.mkdtemp(dir=home.root))
    steps = EVERY * (options.checkpoints + 2)  # the first one gets its memory, the last one is written when training has ended
    job = muster.Job(home, muster.PACED, ("--steps", steps, "--micro-batches", MICRO_BATCHES, "--batch-size", 1), workers=3, name="save",
                     flags=("--checkpoint", home.root / "saved", "--checkpoint-every", EVERY),
                     environment={KNOBS[compute]: str(options.pace_ms), "PACED_FLOATS": str(floats), "PACED_TIMES": str(times)})
    try:
        job.wait_exit(3600)
        written = sum(event["kind"] == "checkpoint" for event in job.events())
        took = [(step, end - begin) for worker, step, begin, end in steps_of(times) if worker.startswith("w-0.") and step >= 2 * EVERY]
    finally:
        home.close(check=False)
    saving = [seconds for step, seconds in took if step % EVERY == 0]
    others = [seconds for step, seconds in took if step % EVERY in OTHERS]
    return {"floats": floats, "compute": compute, "written": written, "median": statistics.median(others), "longest": max(others),
            "saving_median": statistics.median(saving), "saving_longest": max(saving)}


def main():
    options = parse()
    os.environ["MUSTER_BIN"] = options.bin
    from tests.harness import muster  # it reads MUSTER_BIN when it is loaded
    if options.output == "text":
        print("| parameters | compute | written | other steps: median | longest | steps that begin with a checkpoint: median | longest |\n"
              "|---|---|---|---|---|---|---|")
    for floats in map(int, options.floats.split(",")):
        for compute in options.compute.split(","):
            found = measure(muster, floats, compute, options)
            if options.output == "json":
                print(json.dumps(found), flush=True)
                continue
            ms = {key: f"{found[key] * 1e3:.1f} ms" for key in ("median", "longest", "saving_median", "saving_longest")}
            ratio = found["saving_median"] / found["median"]
            print(f"| {floats:,} | {compute} | {found['written']} | {ms['median']} | {ms['longest']} | {ms['saving_median']} ({ratio:.2f} x) | "
                  f"{ms['saving_longest']} |", flush=True)


if __name__ == "__main__":
    main()
