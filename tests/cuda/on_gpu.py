#!/usr/bin/env python3
"""What needs a GPU, in one command each: `test` for what must be true, `bench` for how fast it is.

    tests/cuda/on_gpu.py test|bench [--only NAME,...] [--json build/gpu-test.json]

Steps run one after the other in release binaries, each with a time limit, and go on when one fails. The JSON has, for each, its name, whether
it has passed, its seconds, and what it found or the end of what it printed. Where MUSTER_LIBCUDA and the others name the stand-ins
(tests/cuda), the same runs without a GPU, which tries this script and measures nothing.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
BUILD = ROOT / "build"
TESTS = BUILD / "tests"
OUTPUT_LINES = 30

# name: (seconds, command)
TEST = {
    "health": (60, [TESTS / "cuda_health_test", "--gtest_filter=*IsGoodWhereAllIsInOrder"]),
    "kernels": (120, [TESTS / "step_kernels_test"]),
    "steps": (120, [TESTS / "device_math_test"]),
    "digits": (60, [TESTS / "gpu_mlp_test"]),
    "catch-up": (120, [TESTS / "train_engine_test", "--gtest_filter=*OnGpu"]),
    "nccl": (180, [TESTS / "nccl_test", "--gtest_filter=Nccl.*"]),
    "nccl-processes": (180, [TESTS / "collectives_process_test", "--gtest_filter=*nccl"]),
    "jobs": (300, [sys.executable, ROOT / "tests/process/gpu_test.py"]),
    "kills": (300, [sys.executable, ROOT / "tests/process/kills_test.py", "Kills.test_of_twenty_at_random_moments",
                    "Kills.test_during_resizes", "Kills.test_of_workers_that_are_still_joining"]),
}
BENCH = {
    "kernels": (240, [TESTS / "device_bench", "--benchmark_format=json"]),
    "kill": (120, [sys.executable, ROOT / "tests/bench/bench.py", "--only", "kill", "--kills", "20"]),
    "join": (240, [sys.executable, ROOT / "tests/bench/join_bench.py", "--floats", "1000000", "--compute", "paced",
                   "--joining", "flat", "--joins", "10", "-o", "json"]),
}


def environment():
    """Several ranks on one GPU, which need few of its multiprocessors each."""
    return {**os.environ, "MUSTER_NEED_GPU": "1", "MUSTER_TEST_DEVICE": "cuda", "MUSTER_BIN": str(BUILD / "bin"),
            "MUSTER_TEST_KILLS": os.environ.get("MUSTER_TEST_KILLS", "10"), "NCCL_MULTI_RANK_GPU_ENABLE": "1"}


def run(name, seconds, command):
    print(f"--- {name}", flush=True)
    started = time.monotonic()
    try:
        done = subprocess.run([*map(str, command)], env=environment(), cwd=ROOT, capture_output=True, text=True,
                              timeout=seconds, stdin=subprocess.DEVNULL)
        code, output = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        code, output = None, f"{late.stdout or ''}{late.stderr or ''}\nnot done within {seconds} s"
    took = time.monotonic() - started
    print("\n".join(output.splitlines()[-OUTPUT_LINES:]))
    print(f"--- {name}: {'passed' if code == 0 else 'FAILED'} in {took:.0f} s", flush=True)
    result = {"name": name, "passed": code == 0, "seconds": round(took, 1)}
    found = as_objects(output) if code == 0 else None
    return {**result, "found": found} if found else {**result, "output": output.splitlines()[-OUTPUT_LINES:]}


def as_objects(output):
    """What a benchmark has printed as JSON: one object, or one a line; None if it printed something else."""
    try:
        return [json.loads(output[output.index("{"):output.rindex("}") + 1])]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    except ValueError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("test", "bench"))
    parser.add_argument("--only", help="names of steps")
    parser.add_argument("--json", type=pathlib.Path, help="default: build/gpu-test.json or build/gpu-bench.json")
    options = parser.parse_args()
    steps = TEST if options.what == "test" else BENCH
    names = options.only.split(",") if options.only else list(steps)
    for name in names:
        if name not in steps:
            parser.error(f"--only {name}: there are {', '.join(steps)}")
    results = [run(name, *steps[name]) for name in names]
    path = options.json or BUILD / f"gpu-{options.what}.json"
    path.write_text(json.dumps({"what": options.what, "standins": "MUSTER_LIBCUDA" in os.environ, "steps": results}, indent=2) + "\n")
    failed = [result["name"] for result in results if not result["passed"]]
    print(f"{len(results) - len(failed)} of {len(results)} passed{': failed ' + ', '.join(failed) if failed else ''}; {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
