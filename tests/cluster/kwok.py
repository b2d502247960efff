"""Nodes that exist on paper: kwok answers for them, and says at once that their pods run."""

from tests.cluster.certificates import NODE_ADDRESS
from tests.cluster.control_plane import ADMIN

TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
STAGES = ("node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease", "pod/fast/pod-ready",
          "pod/fast/pod-delete")
RESOURCES = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"}


def start(plane, nodes):
    """kwok itself and `nodes` nodes, ready for pods that tolerate TAINT when this returns."""
    configuration = plane.folder / "kwok-stages.yaml"
    configuration.write_text("\n---\n".join((plane.programs / "kwok-stages" / f"{stage}.yaml").read_text()
                                            for stage in STAGES))
    plane.start("kwok", f"--kubeconfig={plane.authority.folder / ADMIN}.kubeconfig", "--manage-all-nodes=false",
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--node-lease-duration-seconds=40",
                f"--config={configuration}", "--cidr=10.202.0.0/16", f"--node-ip={NODE_ADDRESS}")
    plane.kubectl.create(*[_node(f"kwok-{number}") for number in range(nodes)])
    plane.kubectl("wait", "--for=condition=Ready", "node", "-l", "type=kwok", "--timeout=60s")


def _node(name):
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"},
                         "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                                    "kubernetes.io/arch": "amd64"}},
            "spec": {"providerID": f"kwok://{name}", "taints": [TAINT]},
            "status": {"capacity": RESOURCES, "allocatable": RESOURCES}}
