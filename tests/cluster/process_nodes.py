"""Process nodes of a test cluster: nodes whose pods are processes (tests/cluster/node). machine.py says what may happen to them."""

import json
import pathlib
import subprocess

from tests.cluster.control_plane import MACHINES_KUBECONFIG
from tests.cluster.machine import Machine
from tests.harness import muster, processes

TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"
PROGRAM = muster.BIN.parent / "tests" / "process_node"
GPU_DRIVER = muster.BIN.parent / "tests" / "cuda" / "libcuda_standin.so"


class ProcessNode(Machine):
    """Ready for pods when constructed, unless told not to wait. In its pods, `launcher` is that of the build, and the API server is
    at `api_server`, HOST:PORT, if that is given; the node itself speaks to the real one. Its GPUs are stand-ins."""

    def __init__(self, cluster, name, cpu=16, memory="64Gi", pods=110, gpus=0, labels=None, adopt=False, wait=True, api_server=None):
        super().__init__(cluster, name)
        resources = {"cpu": str(cpu), "memory": memory, "pods": str(pods), "nvidia.com/gpu": str(gpus)}
        keys = cluster.folder / "pki"
        self.start(PROGRAM, "--kubeconfig", keys / MACHINES_KUBECONFIG, "--name", name, "--address", self.address,
                   "--folder", self.folder, "--keys", keys, "--launcher", muster.LAUNCHER, "--gpu-driver", GPU_DRIVER, "--resources", json.dumps(resources),
                   "--labels", json.dumps(labels or {}), *(["--adopt"] if adopt else []),
                   *(["--api-server", api_server] if api_server else []))
        if wait:
            self.wait_ready()

    def pod_log(self, namespace, pod):
        """What the pod has printed, also when it is gone."""
        path = self.folder / f"{namespace}_{pod}.log"
        return path.read_text() if path.exists() else ""

    def renew_token(self, namespace, pod, account):
        """Gives a running pod a new token in place of the one it has, as a kubelet does before that expires."""
        token = self.cluster.kubectl("-n", namespace, "create", "token", account, "--bound-object-kind=Pod",
                                     f"--bound-object-name={pod}").strip()
        # What a kubelet mounts read-only it writes from outside; here the mount itself is.
        script = f"cd {TOKENS} && mount -o remount,rw . && cat > new && mv new token && mount -o remount,ro ."
        subprocess.run(["nsenter", "--target", str(self._program_of(pod)), "--mount", "--pid", "--root", "--wd", "--", "sh", "-c", script],
                       input=token, text=True, check=True, timeout=10)

    def _program_of(self, pod):
        name = f"HOSTNAME={pod}".encode()
        return next(pid for pid in processes.descendants(self.process.pid)
                    if name in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
