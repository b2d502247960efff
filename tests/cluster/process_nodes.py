"""Process nodes of a test cluster: nodes whose pods are processes (tests/cluster/node), to be drained, frozen or switched off."""

import itertools
import json
import os
import signal
import subprocess

from tests.cluster.certificates import NODE_ADDRESS
from tests.harness import muster, processes

PROGRAM = muster.BIN.parent / "tests" / "process_node"


class ProcessNode:
    """Ready for pods when constructed, unless told not to wait."""

    _subnets = itertools.count(1)

    def __init__(self, cluster, name, cpu=16, memory="64Gi", pods=110, gpus=0, labels=None, adopt=False, wait=True):
        self.cluster, self.name = cluster, name
        self.folder = cluster.folder / "nodes" / name
        self.folder.mkdir(parents=True)
        resources = {"cpu": str(cpu), "memory": memory, "pods": str(pods), "nvidia.com/gpu": str(gpus)}
        with open(self.folder / "node.log", "ab") as log:
            self.process = subprocess.Popen(
                cluster.inside(PROGRAM, "--kubeconfig", cluster.folder / "pki" / "admin.kubeconfig", "--name", name,
                               "--address", NODE_ADDRESS, "--subnet", f"10.200.{next(self._subnets)}",
                               "--folder", self.folder, "--resources", json.dumps(resources),
                               "--labels", json.dumps(labels or {}), *(["--adopt"] if adopt else [])),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        if wait:
            muster.wait_until(self._ready, 60, f"node {name}", self.log)

    def _ready(self):
        if self.process.poll() is not None:
            raise muster.Late(f"node {self.name} has ended:\n{self.log()}")
        return "True" in self.cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[?(@.metadata.name=='" + self.name +
                                              "')].status.conditions[?(@.type=='Ready')].status}")

    def log(self):
        return (self.folder / "node.log").read_text()

    def pod_log(self, namespace, pod):
        path = self.folder / f"{namespace}_{pod}.log"
        return path.read_text() if path.exists() else ""

    def pid(self):
        """The agent itself: nsenter has a child of its own in the cluster."""
        return (processes.children(self.process.pid) or [self.process.pid])[0]

    def switch_off(self):
        """As when the power goes: agent and pods are gone, and nobody has been told."""
        os.kill(self.pid(), signal.SIGKILL)
        self.process.wait(timeout=10)

    def close(self):
        if self.process.poll() is None:
            os.kill(self.pid(), signal.SIGTERM)
            self.process.wait(timeout=10)
