"""Karpenter over a simulated cloud (tests/cluster/tools/cloud), whose machines are process nodes.

Karpenter decides what to buy and makes the Node objects; Machines boots a process node for each and switches it off when the Node goes.
"""

import json
import subprocess
import threading
import urllib.parse

from tests.cluster.control_plane import ADMIN
from tests.cluster.process_nodes import ProcessNode

POOL_LABEL = "karpenter.sh/nodepool"
ZONE = "zone-a"


def machine_type(name, cpu, memory, on_demand, spot, gpus=0):
    """A type of machine with its price an hour, as the provider reads it."""
    resources = {"cpu": str(cpu), "memory": memory, "ephemeral-storage": "100Gi", "pods": "110"}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)

    def offering(capacity, price):
        where = {"karpenter.sh/capacity-type": capacity, "topology.kubernetes.io/zone": ZONE}
        return {"Price": price, "Available": True,
                "Requirements": [{"key": key, "operator": "In", "values": [value]} for key, value in where.items()]}

    return {"name": name, "architecture": "amd64", "operatingSystems": ["linux"], "resources": resources,
            "offerings": [offering("on-demand", on_demand), offering("spot", spot)]}


TYPES = [machine_type("small", 4, "8Gi", on_demand=0.2, spot=0.06),
         machine_type("large", 16, "64Gi", on_demand=0.8, spot=0.25),
         machine_type("gpu", 96, "1Ti", on_demand=30.0, spot=10.0, gpus=8)]


def start(plane):
    """Karpenter, with one pool from which it may take every type, on demand or spot."""
    folder = plane.folder / "karpenter"
    folder.mkdir()
    (folder / "types.json").write_text(json.dumps(TYPES))
    plane.kubectl("apply", "--server-side", "-f", plane.programs / "crds")
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/nodepools.karpenter.sh",
                  "crd/nodeclaims.karpenter.sh", "crd/kwoknodeclasses.karpenter.kwok.sh")
    plane.start("karpenter", environment={
        "KUBECONFIG": f"{plane.authority.folder / ADMIN}.kubeconfig", "DISABLE_LEADER_ELECTION": "true",
        "METRICS_PORT": "18000", "HEALTH_PROBE_PORT": "18081", "SYSTEM_NAMESPACE": "kube-system",
        "INSTANCE_TYPES_FILE_PATH": str(folder / "types.json"), "CLOUD_STOCK_FILE": str(folder / "stock.json"),
        "BATCH_IDLE_DURATION": "1s", "BATCH_MAX_DURATION": "10s", "HOME": "/", "PATH": "/usr/bin:/bin"})
    requirements = [{"key": key, "operator": "In", "values": values} for key, values in (
        ("kubernetes.io/arch", ["amd64"]), ("kubernetes.io/os", ["linux"]),
        ("karpenter.sh/capacity-type", ["on-demand", "spot"]))]
    objects = [
        {"apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass", "metadata": {"name": "default"},
         "spec": {"nodeRegistrationDelay": "0s"}},
        {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "default"}, "spec": {
            "template": {"spec": {"requirements": requirements, "expireAfter": "Never", "nodeClassRef": {
                "group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"}}},
            "disruption": {"consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "5s",
                           "budgets": [{"nodes": "100%"}]}}}]
    plane.kubectl.create(*objects)


class Machines:
    """Boots a process node for each Node that Karpenter makes, which it does so long after its order, until closed. `machines.nodes[name]` can be frozen, cut off and switched
    off as any machine; to take one back, use reclaim() here."""

    def __init__(self, cluster, boot_seconds=0):
        self.cluster = cluster
        cluster.kubectl("patch", "kwoknodeclass", "default", "--type=merge", "-p",
                        json.dumps({"spec": {"nodeRegistrationDelay": f"{boot_seconds}s"}}))
        self.nodes = {}  # by name; those that were there stay listed
        self.watch = subprocess.Popen(
            cluster.kubectl.command("get", "--raw", "/api/v1/nodes?watch=true&labelSelector=" +
                                    urllib.parse.quote(POOL_LABEL, safe="")),
            stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self):
        for line in self.watch.stdout:
            event = json.loads(line)
            kind, name = event["type"], event["object"]["metadata"]["name"]
            if kind == "DELETED" and name in self.nodes:
                self.nodes[name].close()
            elif kind != "DELETED" and name not in self.nodes:
                self.nodes[name] = ProcessNode(self.cluster, name, adopt=True, wait=False)

    def running(self):
        return [node for node in list(self.nodes.values()) if node.process.poll() is None]

    def reclaim(self, name, notice_seconds):
        """As when the cloud takes a spot machine back: Karpenter, which hears of it, gives up its claim; see Machine.reclaim."""
        claim = self.cluster.kubectl("get", "nodeclaims", "-o", f"jsonpath={{.items[?(@.status.nodeName=='{name}')].metadata.name}}")
        self.nodes[name].reclaim(notice_seconds)
        self.cluster.kubectl("delete", "nodeclaim", claim, "--wait=false")

    def set_out_of_stock(self, *kinds):
        """Each a pair of type and "spot", "on-demand" or "" for both; nothing brings all back."""
        path = self.cluster.folder / "karpenter" / "stock.json"
        path.write_text(json.dumps([{"type": name, "capacity": capacity} for name, capacity in kinds]))

    def close(self):
        self.watch.terminate()
        self.watch.wait()
        self.thread.join()
        self.watch.stdout.close()
        for node in self.running():
            node.close()
