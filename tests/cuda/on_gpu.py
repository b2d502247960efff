#!/usr/bin/env python3
"""What needs a GPU, in one command each: `test` for what must be true, `bench` for how fast it is.

    tests/cuda/on_gpu.py test|bench [--only NAME,...] [--json build/gpu-test.json]

Steps run one after the other in release binaries, each with a time limit, and go on when one fails. The JSON has, for each, its name, whether
it has passed, its seconds, and what it found or the end of what it printed; and what `launcher doctor` says of the machine. NCCL and cuBLAS
are those of NVIDIA's wheels, where this Python has them. Where MUSTER_LIBCUDA and the others name the stand-ins (tests/cuda), the same
runs without a GPU, which tries this script and measures nothing.

For a machine with a GPU and this tree, but without what building takes:

    tests/cuda/on_gpu.py pack                               here: build/gpu.tar.xz, of the programs and the libraries they need
    tar -xf gpu.tar.xz -C DIR                               there
    tests/cuda/on_gpu.py test|bench --build DIR             there
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
BUILD = ROOT / "build"
OUTPUT_LINES = 30

# name: (seconds, command), of programs of the build folder or of the tree
TEST = {
    "health": (60, ["tests/cuda_health_test", "--gtest_filter=*IsGoodWhereAllIsInOrder"]),
    "kernels": (120, ["tests/step_kernels_test"]),
    "steps": (120, ["tests/device_math_test"]),
    "digits": (60, ["tests/gpu_mlp_test"]),
    "catch-up": (120, ["tests/train_engine_test", "--gtest_filter=*OnGpu"]),
    "nccl": (180, ["tests/nccl_test", "--gtest_filter=Nccl.*"]),
    "nccl-processes": (180, ["tests/collectives_process_test", "--gtest_filter=*nccl"]),
    "jobs": (300, ["tests/process/gpu_test.py"]),
    "kills": (300, ["tests/process/kills_test.py", "Kills.test_of_twenty_at_random_moments", "Kills.test_during_resizes",
                    "Kills.test_of_workers_that_are_still_joining"]),
}
BENCH = {
    "kernels": (240, ["tests/device_bench", "--benchmark_format=json"]),
    "ring": (180, ["tests/ring_bench"]),
    "kill": (120, ["tests/bench/bench.py", "--only", "kill", "--kills", "20"]),
    "join": (240, ["tests/bench/join_bench.py", "--floats", "1000000", "--compute", "paced", "--joining", "flat", "--joins", "10",
                   "-o", "json"]),
}
# What scripts start.
PROGRAMS = ["bin/launcher", "bin/digits", "tests/paced_program"]
WHEELS = {"MUSTER_LIBNCCL": "nvidia/nccl/lib/libnccl.so.2", "MUSTER_LIBCUBLAS": "nvidia/cu13/lib/libcublas.so.13"}
# Those of the machine that runs them, which fit its driver and each other.
OF_THE_SYSTEM = ("libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libresolv.so", "ld-linux", "libstdc++.so", "libgcc_s.so",
                 "linux-vdso.so")


def environment(build):
    """Several ranks on one GPU, which need few of its multiprocessors each."""
    wheels = {name: str(path) for name, library in WHEELS.items() for path in [pathlib.Path(folder, library) for folder in reversed(sys.path)]
              if path.exists()}
    packed = {"LD_LIBRARY_PATH": str(build / "lib")} if (build / "lib").exists() else {}
    return {**packed, **wheels, **os.environ, "MUSTER_NEED_GPU": "1", "MUSTER_TEST_DEVICE": "cuda", "MUSTER_BIN": str(build / "bin"),
            "MUSTER_TEST_KILLS": os.environ.get("MUSTER_TEST_KILLS", "10"), "NCCL_MULTI_RANK_GPU_ENABLE": "1"}


def full_command(build, command):
    program, *arguments = command
    if not program.endswith(".py"):
        return [build / program, *arguments]
    return [sys.executable, ROOT / program, *arguments, *(["--bin", build / "bin"] if "/bench/" in program else [])]


def pack():
    from k8s.image import oci  # knows what a program needs
    programs = PROGRAMS + [command[0] for _, command in [*TEST.values(), *BENCH.values()]
                           if not command[0].endswith(".py")]
    path = BUILD / "gpu.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        libraries = {}
        for program in programs:
            archive.add(BUILD / program, program)
            libraries |= oci.libraries(BUILD / program)
        for name, file in sorted(libraries.items()):
            if not pathlib.Path(name).name.startswith(OF_THE_SYSTEM):
                archive.add(pathlib.Path(file).resolve(), f"lib/{name}")
    print(f"{path}: {len(programs)} programs, {path.stat().st_size >> 20} MiB")
    return 0


def run(build, name, seconds, command):
    print(f"--- {name}", flush=True)
    started = time.monotonic()
    try:
        done = subprocess.run([*map(str, full_command(build, command))], env=environment(build), cwd=ROOT, capture_output=True, text=True,
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
    parser.add_argument("what", choices=("test", "bench", "pack"))
    parser.add_argument("--only", help="names of steps")
    parser.add_argument("--json", type=pathlib.Path, help="default: build/gpu-test.json or build/gpu-bench.json")
    parser.add_argument("--build", type=pathlib.Path, default=BUILD, help="folder of the programs (default: build)")
    options = parser.parse_args()
    if options.what == "pack":
        return pack()
    build = options.build.absolute()
    steps = TEST if options.what == "test" else BENCH
    names = options.only.split(",") if options.only else list(steps)
    for name in names:
        if name not in steps:
            parser.error(f"--only {name}: there are {', '.join(steps)}")
    doctor = subprocess.run([build / "bin/launcher", "doctor", "-o", "json"], env=environment(build), capture_output=True, text=True)
    print(doctor.stdout or doctor.stderr)
    found = {"what": options.what, "standins": "MUSTER_LIBCUDA" in os.environ, "machine": as_objects(doctor.stdout), "steps": []}
    path = options.json or BUILD / f"gpu-{options.what}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = found["steps"]
    for name in names:
        results.append(run(build, name, *steps[name]))
        path.write_text(json.dumps(found, indent=2) + "\n")  # what there is, if the rest is cut off
    failed = [result["name"] for result in results if not result["passed"]]
    print(f"{len(results) - len(failed)} of {len(results)} passed{': failed ' + ', '.join(failed) if failed else ''}; {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
