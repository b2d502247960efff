#!/usr/bin/env python3
"""A job on nodes with GPUs, by a stand-in for their driver: each worker takes a GPU of its pod, and they come and go with their nodes.

    MUSTER_BIN=build/bin tests/cluster/gpu_job_test.py
"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.cluster_job import ClusterJob  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402


class GpuJobs(fixture.ClusterTest):
    def start_node(self, name, **has):
        node = ProcessNode(self.cluster, name, **has)
        self.addCleanup(node.close)
        return node

    def devices(self, job):
        """Of the workers that train: "cuda:1 (...)", without what is in brackets."""
        return {worker["id"]: worker.get("device", "").partition(" ")[0] for worker in job.status()["workers"]}

    def test_workers_take_the_gpus_of_their_pod_and_go_with_their_node(self):
        self.start_node("base", cpu=8)  # for the coordinator
        first, second = (self.start_node(name, cpu=4, gpus=2) for name in ("gpu-a", "gpu-b"))
        job = ClusterJob(self, self.new_space(), {"pools": [
            {"name": "gpu", "workers": "2:4", "device": {"kind": "gpu", "count": 2}, "resources": {"cpu": "1"}}]},
            steps=1_000_000, pace_ms=8)
        job.wait_size(4, 90)
        before = job.incarnations()
        devices = self.devices(job)
        self.assertEqual(sorted(devices), sorted(before))
        for worker, device in devices.items():
            self.assertEqual(device, f"cuda:{worker[-1]}")

        changes = len(job.changes())
        [lost] = [pod for pod in job.pods("worker") if pod["spec"]["nodeName"] == second.name]
        second.switch_off()
        self.kubectl("delete", "node", second.name)
        self.kubectl("-n", job.space, "delete", "pod", lost["metadata"]["name"], "--force", "--grace-period=0")  # no need to wait
        job.wait_size(2, 60, after=changes)
        third = self.start_node("gpu-c", cpu=4, gpus=2)
        job.wait_size(4, 120, after=changes)
        after = job.incarnations()
        stayed = before.keys() & after.keys()
        self.assertEqual(len(stayed), 2)
        self.assertEqual({worker: after[worker] for worker in stayed}, {worker: before[worker] for worker in stayed})
        nodes = {pod["spec"]["nodeName"] for pod in job.pods("worker")}
        self.assertEqual(nodes, {first.name, third.name})

        finished = job.stop_and_finish(60)
        self.assertEqual(finished["weights"], job.undisturbed_weights(finished["step"]), "those of a CPU")


if __name__ == "__main__":
    unittest.main()
