#!/usr/bin/env python3
"""A real Kubernetes cluster on this machine, for tests and to play with. Needs root and Go; nothing of it outlives it.

    tests/cluster/cluster.py up        starts one in the background and says how to use it
    tests/cluster/cluster.py down      stops it, without a trace
    tests/cluster/cluster.py missing   says what this machine lacks for it, with exit code 1, or nothing
    tests/cluster/cluster.py serve FOLDER [--kwok NODES] [--autoscaler]
                                       runs one until standard input ends; prints one line of JSON when it is ready
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import autoscaler, confinement, kwok  # noqa: E402
from tests.cluster.control_plane import ADMIN, API_PORT, ControlPlane  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE / "tools" / "build"
NEEDED = ("openssl", "ip", "iptables", "pkill")


def missing():
    """One sentence about what this machine lacks to run a cluster; empty if nothing."""
    if os.geteuid() != 0:
        return "a test cluster needs root (network and process namespaces)"
    for program in NEEDED:
        if not shutil.which(program):
            return f"`{program}` is not installed (tools/setup cluster installs it)"
    done = subprocess.run([BUILD, "--check"], capture_output=True, text=True)
    if done.returncode:
        return done.stdout.strip() or done.stderr.strip()
    probe = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], capture_output=True, text=True)
    return f"namespaces are refused: {probe.stderr.strip()}" if probe.returncode else ""


def programs():
    """The folder of the cluster's programs, built if need be."""
    return pathlib.Path(subprocess.run([BUILD], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def serve(folder, kwok_nodes, with_autoscaler, until_killed):
    """Runs a cluster until standard input ends or a signal comes; `folder` is left behind, with the logs."""
    binaries = programs()
    listener = socket.create_server(("127.0.0.1", 0))
    manager_pid = os.getpid()

    def inside():
        started = time.monotonic()
        plane = ControlPlane(binaries, folder)
        plane.wait_ready()
        if kwok_nodes:
            kwok.start(plane, kwok_nodes)
        if with_autoscaler:
            autoscaler.start(plane)
        confinement.relay(listener, API_PORT)
        port = listener.getsockname()[1]
        kubeconfig = plane.authority.kubeconfig(ADMIN, f"https://127.0.0.1:{port}", folder / "kubeconfig")
        print(json.dumps({"kubeconfig": str(kubeconfig), "kubectl": str(binaries / "kubectl"), "pid": manager_pid,
                          "seconds": round(time.monotonic() - started, 1)}), flush=True)
        while until_killed or not confinement.wait_input(0, seconds=0):
            plane.tend()
            time.sleep(0.2)

    return confinement.confined(inside)


class Cluster:
    """A cluster of a test: `with Cluster("--autoscaler") as cluster: cluster.kubectl("get", "nodes")`, with flags of `serve`."""

    READY_SECONDS = 150

    def __init__(self, *flags):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="muster-cluster-"))
        programs()  # not on the clock of the start
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve", self.folder, *map(str, flags)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        came = confinement.wait_input(self.process.stdout.fileno(), seconds=self.READY_SECONDS)
        line = self.process.stdout.readline() if came else ""
        if not line:
            self.close()
            raise RuntimeError(f"the cluster did not come up in {self.READY_SECONDS} s")
        self.facts = json.loads(line)
        self.kubeconfig = self.facts["kubeconfig"]

    def kubectl(self, *arguments, text=None):
        done = subprocess.run([self.facts["kubectl"], f"--kubeconfig={self.kubeconfig}", *map(str, arguments)],
                              input=text, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def inside(self, *command):
        """`command` as it is to be written to run in the cluster's network, among its processes."""
        first = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0]
        return ["nsenter", "--target", first, "--net", "--pid", "--mount", "--", *map(str, command)]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def state_folder():
    base = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(base) / "muster" / "cluster"


def running(folder):
    """The facts of the cluster in `folder` if it runs."""
    try:
        facts = json.loads((folder / "facts.json").read_text())
        os.kill(facts["pid"], 0)
        return facts
    except (OSError, ValueError):
        return None


def up(kwok_nodes):
    folder = state_folder()
    facts = running(folder)
    if not facts:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        programs()
        with open(folder / "facts.json", "wb") as out, open(folder / "cluster.log", "wb") as log:
            process = subprocess.Popen([sys.executable, __file__, "serve", folder, "--kwok", str(kwok_nodes),
                                        "--until-killed"], stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                                       start_new_session=True)
        while not (facts := running(folder)):
            if process.poll() is not None:
                sys.exit(f"cluster: it did not come up:\n{(folder / 'cluster.log').read_text()}")
            time.sleep(0.1)
    print(f"export KUBECONFIG={facts['kubeconfig']}\nalias kubectl={facts['kubectl']}\n"
          f"# stop it: {HERE / 'cluster.py'} down")


def down():
    facts = running(state_folder())
    if facts:
        os.kill(facts["pid"], signal.SIGTERM)
        while running(state_folder()):
            time.sleep(0.05)
    shutil.rmtree(state_folder(), ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("up", "down", "missing", "serve"):
        verb = verbs.add_parser(name)
        if name in ("up", "serve"):
            verb.add_argument("--kwok", type=int, default=0, metavar="NODES", help="simulated nodes")
        if name == "serve":
            verb.add_argument("folder", type=pathlib.Path)
            verb.add_argument("--autoscaler", action="store_true", help="Karpenter over a simulated cloud")
            verb.add_argument("--until-killed", action="store_true", help="do not look at standard input")
    options = parser.parse_args()
    if options.verb == "down":
        return down()
    lacking = missing()
    if options.verb == "missing":
        print(lacking, end="\n" if lacking else "")
        return 1 if lacking else 0
    if lacking:
        sys.exit(f"cluster: {lacking}")
    if options.verb == "up":
        return up(options.kwok)
    return serve(options.folder, options.kwok, options.autoscaler, options.until_killed)


if __name__ == "__main__":
    sys.exit(main())
