#!/usr/bin/env python3
"""How soon every survivor is out of the collective when a worker dies, stops, or loses a connection.

    tests/bench/detect_bench.py [--workers 2,4,8] [--faults kill,stop,cut] [--tries 50] [--bin build/bin] [-o json]

`digits` trains without a pause. A fault hits a worker at a random moment: SIGKILL; SIGSTOP; or shutdown(2) of one of its connections to
another worker. The time ends when the last survivor has logged that its generation is broken. docs/benchmarks.md has the table.
"""

import argparse
import ctypes
import datetime
import json
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.bench.bench import percentile  # noqa: E402

BROKEN = re.compile(r"^(\S+) info (\S+) generation=(\d+) broken ", re.MULTILINE)
PIDFD_GETFD = 438  # of x86-64 and arm64; Python has no name for it


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="2,4,8")
    parser.add_argument("--faults", default="kill,stop,cut")
    parser.add_argument("--tries", type=int, default=50, help="of each fault and number of workers")
    parser.add_argument("--bin", default=str(ROOT / "build" / "bin"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", dest="output", choices=("text", "json"), default="text")
    return parser.parse_args()


class Logs:
    """The workers' logs of a job: when each left which generation."""

    def __init__(self, folder):
        self.folder = folder
        self.left = {}  # (generation, worker) -> wall-clock seconds
        self.offsets = {}

    def read(self):
        for path in self.folder.glob("*.log"):
            with open(path, "rb") as file:
                file.seek(self.offsets.get(path, 0))
                content = file.read()
            content = content[:content.rfind(b"\n") + 1]
            self.offsets[path] = self.offsets.get(path, 0) + len(content)
            for when, worker, generation in BROKEN.findall(content.decode(errors="replace")):
                self.left.setdefault((int(generation), worker), datetime.datetime.fromisoformat(when).timestamp())


def data_connections(pid, peers):
    """Descriptors of `pid` whose other end is one of the processes `peers`: Unix sockets, by what the kernel says of them."""
    lib = ctypes.CDLL(None, use_errno=True)
    found = []
    pidfd = os.pidfd_open(pid)
    try:
        for entry in os.listdir(f"/proc/{pid}/fd"):
            try:
                if not os.readlink(f"/proc/{pid}/fd/{entry}").startswith("socket:"):
                    continue
            except FileNotFoundError:
                continue
            fd = lib.syscall(PIDFD_GETFD, pidfd, int(entry), 0)
            if fd < 0:
                continue
            peer = socket.socket(fileno=fd)
            try:
                owner = int.from_bytes(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
            except OSError:
                owner = 0
            if peer.family == socket.AF_UNIX and owner in peers:
                found.append(peer)
            else:
                peer.close()
    finally:
        os.close(pidfd)
    return found


class DetectBench:
    def __init__(self, muster, options):
        self.muster = muster
        self.options = options
        self.random = random.Random(options.seed)

    def measure(self, workers, fault):
        home = self.muster.Home()
        job = self.muster.Job(home, "digits", ("--steps", 10_000_000, "--micro-batches", 16), workers=workers, name="detect")
        logs = Logs(job.folder / "logs")
        seconds = []
        try:
            while len(seconds) < self.options.tries:
                members = job.wait_world(workers)
                time.sleep(self.random.uniform(0.05, 0.3))
                status = job.status()
                members = {w["id"]: w["pid"] for w in status["workers"] if w["state"] == "training"}
                if len(members) < workers:
                    continue
                victim = self.random.choice(sorted(members))
                # Of a cut connection nobody dies: both ends must get out, too.
                survivors = sorted(members) if fault == "cut" else sorted(set(members) - {victim})
                started = self.strike(fault, members, victim)
                if started is None:
                    continue
                generation = status["generation"]

                def all_left():
                    logs.read()
                    return all((generation, worker) in logs.left for worker in survivors)
                self.muster.wait_until(all_left, 60, f"{survivors} to leave generation {generation}", job.explain)
                seconds.append(max(logs.left[generation, worker] for worker in survivors) - started)
                if fault == "stop":
                    os.kill(members[victim], signal.SIGKILL)
        finally:
            home.close(check=False)
        return seconds

    def strike(self, fault, members, victim):
        """The wall-clock time of the fault, or nothing if it could not be done."""
        if fault == "cut":
            connections = data_connections(members[victim], set(members.values()) - {members[victim]})
            if not connections:
                return None
            chosen = self.random.choice(connections)
            started = time.time()
            chosen.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                connection.close()
            return started
        started = time.time()
        os.kill(members[victim], signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
        return started


def main():
    options = parse()
    os.environ["MUSTER_BIN"] = options.bin
    os.environ.setdefault("TZ", "UTC")
    from tests.harness import muster  # it reads MUSTER_BIN when it is loaded
    bench = DetectBench(muster, options)
    if options.output == "text":
        print("| fault | workers | tries | median | 90 % | worst |\n|---|---|---|---|---|---|")
    for fault in options.faults.split(","):
        for workers in map(int, options.workers.split(",")):
            seconds = sorted(bench.measure(workers, fault))
            if options.output == "json":
                print(json.dumps({"fault": fault, "workers": workers, "seconds": seconds}), flush=True)
                continue
            print(f"| {fault} | {workers} | {len(seconds)} | {statistics.median(seconds) * 1e3:.1f} ms | {percentile(seconds, 0.9) * 1e3:.1f} ms | "
                  f"{seconds[-1] * 1e3:.1f} ms |", flush=True)


if __name__ == "__main__":
    main()
