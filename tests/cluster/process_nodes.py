"""Process nodes of a test cluster: nodes whose pods are processes (tests/cluster/node). machine.py says what may happen to them."""

import json

from tests.cluster.control_plane import MACHINES_KUBECONFIG
from tests.cluster.machine import Machine
from tests.harness import muster

PROGRAM = muster.BIN.parent / "tests" / "process_node"


class ProcessNode(Machine):
    """Ready for pods when constructed, unless told not to wait. In its pods, `launcher` is that of the build."""

    def __init__(self, cluster, name, cpu=16, memory="64Gi", pods=110, gpus=0, labels=None, adopt=False, wait=True):
        super().__init__(cluster, name)
        resources = {"cpu": str(cpu), "memory": memory, "pods": str(pods), "nvidia.com/gpu": str(gpus)}
        keys = cluster.folder / "pki"
        self.start(PROGRAM, "--kubeconfig", keys / MACHINES_KUBECONFIG, "--name", name, "--address", self.address,
                   "--folder", self.folder, "--keys", keys, "--launcher", muster.LAUNCHER, "--resources", json.dumps(resources),
                   "--labels", json.dumps(labels or {}), *(["--adopt"] if adopt else []))
        if wait:
            self.wait_ready()

    def pod_log(self, namespace, pod):
        """What the pod has printed, also when it is gone."""
        path = self.folder / f"{namespace}_{pod}.log"
        return path.read_text() if path.exists() else ""
