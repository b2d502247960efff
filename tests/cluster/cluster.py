#!/usr/bin/env python3
"""A real Kubernetes cluster on this machine, for tests and to play with. Needs root and Go; nothing of it outlives it.

    tests/cluster/cluster.py up [--nodes N]
                                       starts one in the background, with nodes whose pods are processes, and says how to use it
    tests/cluster/cluster.py down      stops it, without a trace
    tests/cluster/cluster.py serve FOLDER [--nodes N] [--kwok N] [--autoscaler]
                                       runs one until standard input ends; prints one line of JSON when it is ready
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import autoscaler, confinement, kwok, process_nodes  # noqa: E402
from tests.cluster.control_plane import ADMIN, API_PORT, ControlPlane  # noqa: E402
from tests.cluster.kubectl import Kubectl  # noqa: E402
from tests.harness import muster, processes  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE / "tools" / "build"
NEEDED = ("openssl", "ip", "iptables", "pkill")
READY_SECONDS = 150
STOP_SECONDS = 10


def missing(nodes=0):
    """One sentence about what this machine lacks to run a cluster with `nodes` process nodes; empty if nothing."""
    if nodes and not process_nodes.PROGRAM.exists():
        return f"{process_nodes.PROGRAM} is not built (`make build` builds it)"
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


def serve(folder, nodes, kwok_nodes, with_autoscaler):
    """Runs a cluster until standard input ends or a signal comes; `folder` is left behind, with the logs."""
    binaries = programs()
    listener = socket.create_server(("127.0.0.1", 0))
    manager_pid = os.getpid()

    def inside():
        started = time.monotonic()
        plane = ControlPlane(binaries, folder)
        plane.wait_ready()
        for number in range(nodes):
            process_nodes.ProcessNode(plane, f"node-{number}", wait=number == nodes - 1)
        if kwok_nodes:
            kwok.start(plane, kwok_nodes)
        if with_autoscaler:
            autoscaler.start(plane)
        confinement.relay(listener, API_PORT)
        port = listener.getsockname()[1]
        kubeconfig = plane.authority.kubeconfig(ADMIN, f"https://127.0.0.1:{port}", folder / "kubeconfig")
        print(json.dumps({"kubeconfig": str(kubeconfig), "kubectl": str(binaries / "kubectl"), "pid": manager_pid,
                          "seconds": round(time.monotonic() - started, 1)}), flush=True)
        while not confinement.wait_input(0, seconds=0.2):
            plane.tend()

    return confinement.confined(inside)


class Cluster:
    """A cluster of a test, until closed: `Cluster("--autoscaler").kubectl("get", "nodes")`, with flags of `serve`."""

    def __init__(self, *flags):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="muster-cluster-"))
        programs()  # not on the clock of the start
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve", self.folder, *map(str, flags)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        came = confinement.wait_input(self.process.stdout.fileno(), seconds=READY_SECONDS)
        line = self.process.stdout.readline() if came else ""
        if not line:
            self.close()
            raise RuntimeError(f"the cluster did not come up in {READY_SECONDS} s")
        self.facts = json.loads(line)
        self.kubeconfig = self.facts["kubeconfig"]
        self.kubectl = Kubectl(self.facts["kubectl"], self.kubeconfig)

    def inside(self, *command):
        """`command` as it is to be written to run in the cluster's network, among its processes."""
        first = processes.children(self.process.pid)[0]
        return ["nsenter", "--target", str(first), "--net", "--pid", "--mount", "--", *map(str, command)]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class ClusterTest(unittest.TestCase):
    """Tests that share a cluster, started with `flags` of `serve`; skipped with the reason where there can be none."""

    flags = ()

    @classmethod
    def setUpClass(cls):
        lacking = missing()
        if lacking:
            raise unittest.SkipTest(lacking)
        cls.cluster = Cluster(*cls.flags)
        cls.addClassCleanup(cls.cluster.close)
        cls.kubectl = cls.cluster.kubectl

    def new_space(self):
        """A namespace named after the test, ready for pods, that takes only those of the restricted Pod Security Standard."""
        space = "t-" + re.sub("[^a-z0-9]+", "-", self._testMethodName.removeprefix("test_"))[:50].strip("-")
        self.kubectl("create", "namespace", space)
        self.kubectl("label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")
        # Pods are refused before their namespace has its service account.
        muster.wait_until(lambda: "default" in self.kubectl("-n", space, "get", "serviceaccounts", "-o", "name"), 30,
                          "a service account")
        return space


class NodeTest(ClusterTest):
    """Tests that share a process node too, and have a namespace each."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node = process_nodes.ProcessNode(cls.cluster, "node-a")
        cls.addClassCleanup(cls.node.close)

    def setUp(self):
        self.space = self.new_space()


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


def up(nodes, kwok_nodes):
    folder = state_folder()
    facts = running(folder)
    if not facts:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        programs()
        read, write = os.pipe()  # it holds the writing end itself, so its standard input never ends
        with open(folder / "facts.json", "wb") as out, open(folder / "cluster.log", "wb") as log:
            process = subprocess.Popen([sys.executable, __file__, "serve", folder, "--nodes", str(nodes), "--kwok", str(kwok_nodes)],
                                       stdin=read, pass_fds=[write], stdout=out, stderr=log, start_new_session=True)
        muster.wait_until(lambda: running(folder) or process.poll() is not None, READY_SECONDS, "the cluster")
        facts = running(folder)
        if not facts:
            sys.exit(f"cluster: it did not come up:\n{(folder / 'cluster.log').read_text()}")
    print(f"export KUBECONFIG={facts['kubeconfig']}\nalias kubectl={facts['kubectl']}\n"
          f"# stop it: {HERE / 'cluster.py'} down")


def down():
    facts = running(state_folder())
    if facts:
        os.kill(facts["pid"], signal.SIGTERM)
        muster.wait_until(lambda: not running(state_folder()), STOP_SECONDS, "the end of the cluster")
    shutil.rmtree(state_folder(), ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("up", "down", "serve"):
        verb = verbs.add_parser(name)
        if name in ("up", "serve"):
            verb.add_argument("--nodes", type=int, default=0, metavar="N", help="nodes whose pods are processes of this machine")
            verb.add_argument("--kwok", type=int, default=0, metavar="N", help="nodes that only say that their pods run")
        if name == "serve":
            verb.add_argument("folder", type=pathlib.Path)
            verb.add_argument("--autoscaler", action="store_true", help="Karpenter over a simulated cloud")
    options = parser.parse_args()
    if options.verb == "down":
        return down()
    lacking = missing(options.nodes)
    if lacking:
        sys.exit(f"cluster: {lacking}")
    if options.verb == "up":
        return up(options.nodes, options.kwok)
    return serve(options.folder, options.nodes, options.kwok, options.autoscaler)


if __name__ == "__main__":
    sys.exit(main())
