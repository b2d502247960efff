"""Step times of the paced program (tests/process/paced_program.cc): what the benchmarks that measure them share.

A step's time is that between the moments at which one worker begins it and begins the next one.
"""

import argparse
import json
import os
import pathlib
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKERS = 3
MICRO_BATCHES = 5  # so that some worker has two of them with three workers and with four
# A micro-batch that is paced waits, as for an accelerator; one that is busy computes.
KNOBS = {"paced": "PACED_MS", "busy": "PACED_BUSY_MS"}


def parser(doc):
    """With the flags that all of them have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--floats", default="100000,1000000,10000000", help="parameters of the model")
    made.add_argument("--compute", default="paced,busy")
    made.add_argument("--pace-ms", type=int, default=50, help="of one micro-batch")
    made.add_argument("--bin", default=str(ROOT / "build" / "bin"))
    made.add_argument("-o", dest="output", choices=("text", "json"), default="text")
    return made


def harness(options):
    """tests.harness.muster for the programs in --bin; it reads MUSTER_BIN when it is loaded."""
    os.environ["MUSTER_BIN"] = options.bin
    from tests.harness import muster
    return muster


def start(muster, home, options, row, steps, flags=(), environment=None):
    """(job, folder of step times) of a job for the `floats` and `compute` of `row`."""
    times = pathlib.Path(tempfile.mkdtemp(dir=home.root))
    job = muster.Job(home, muster.PACED, ("--steps", steps, "--micro-batches", MICRO_BATCHES, "--batch-size", 1), workers=WORKERS,
                     name="paced", flags=flags,
                     environment={KNOBS[row["compute"]]: str(options.pace_ms), "PACED_FLOATS": str(row["floats"]),
                                  "PACED_TIMES": str(times), **(environment or {})})
    return job, times


def steps_of(folder):
    """(worker, step, begin, end) of every step that some worker has begun and ended."""
    for path in folder.iterdir():
        begun = [line.split() for line in path.read_text().splitlines()]
        for (step, begin), (next_step, end) in zip(begun, begun[1:]):
            if int(next_step) == int(step) + 1:
                yield path.name, int(step), float(begin), float(end)


def rows(options):
    """{"floats", "compute"} of each that is asked for."""
    return [{"floats": floats, "compute": compute} for floats in map(int, options.floats.split(",")) for compute in options.compute.split(",")]


def milliseconds(seconds):
    return f"{seconds * 1e3:.1f} ms"


class Table:
    """Prints what was found, an object a line or a row of a table a line. `columns`: {title: text of an object}."""

    def __init__(self, options, columns):
        self.json = options.output == "json"
        self.columns = columns
        if not self.json:
            self._line(columns)
            self._line(["---"] * len(columns))

    def add(self, found):
        if self.json:
            print(json.dumps(found), flush=True)
        else:
            self._line(text(found) for text in self.columns.values())

    @staticmethod
    def _line(cells):
        print(f"| {' | '.join(cells)} |", flush=True)
