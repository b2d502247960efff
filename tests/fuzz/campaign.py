#!/usr/bin/env python3
"""Fuzzes each target for a while with libFuzzer, and tells what was found.

    tests/fuzz/campaign.py [--seconds 60] [--build build-fuzz] [target ...]     all targets without one

What reaches new code is kept in ~/.cache/muster/fuzz/TARGET and is where the next campaign begins, beside the seeds in
tests/fuzz/corpus/TARGET. What makes a target fail is kept in BUILD/found; fix the bug, and put the input into the corpus.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
LONGEST_SECONDS = 30  # of one input
MOST_MEMORY_MIB = 2048
LONGEST_BYTES = 16384


def campaign(target, build, seconds, cache):
    """Whether nothing was found."""
    grown = cache / target
    found = build / "found"
    for folder in (grown, found):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="muster-fuzz-", dir="/dev/shm") as scratch:
        done = subprocess.run(
            [build / "tests" / f"fuzz_{target}", f"-max_total_time={seconds}", f"-timeout={LONGEST_SECONDS}",
             f"-rss_limit_mb={MOST_MEMORY_MIB}", "-malloc_limit_mb=256", f"-max_len={LONGEST_BYTES}",
             f"-artifact_prefix={found}/{target}-", "-print_final_stats=1", grown, CORPUS / target],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env={**os.environ, "TMPDIR": scratch})

    def figure(name):
        numbers = re.findall(rf"stat::{name}:\s+(\d+)", done.stdout)
        return int(numbers[-1]) if numbers else 0

    covered = re.findall(r"cov: (\d+)", done.stdout)
    print(f"{target}: {figure('number_of_executed_units')} inputs, {figure('average_exec_per_sec')} a second, "
          f"{covered[-1] if covered else 0} places reached, {len(list(grown.iterdir()))} inputs kept, "
          f"{'nothing found' if done.returncode == 0 else 'FOUND SOMETHING'}", flush=True)
    if done.returncode != 0:
        print(done.stdout[-6000:])
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build-fuzz")
    parser.add_argument("target", nargs="*", help="a folder of tests/fuzz/corpus")
    options = parser.parse_args()
    known = sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())
    unknown = set(options.target) - set(known)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    cache = pathlib.Path.home() / ".cache" / "muster" / "fuzz"
    good = [campaign(target, options.build, options.seconds, cache) for target in options.target or known]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
