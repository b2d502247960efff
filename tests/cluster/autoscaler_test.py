#!/usr/bin/env python3
"""The autoscaler of the test cluster: machines come because pods wait, and go when they are idle.

    MUSTER_BIN=build/bin tests/cluster/autoscaler_test.py
"""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.autoscaler import Machines  # noqa: E402
from tests.harness import muster  # noqa: E402


class Autoscaler(fixture.ClusterTest):
    flags = ("--autoscaler",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machines = Machines(cls.cluster)
        cls.addClassCleanup(cls.machines.close)

    def create(self, names, cpu, selector):
        pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "restartPolicy": "Never", "nodeSelector": selector, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "none", "command": ["sleep", "1000"],
                            "resources": {"requests": {"cpu": str(cpu)}}}]}} for name in names]
        self.kubectl.create(*pods)

    def wait_running(self, names):
        muster.wait_until(lambda: self.of_pods(names, "status.phase") == ["Running"] * len(names), 90, f"{names} to run",
                          lambda: self.kubectl("get", "pods,nodes,nodeclaims", "-o", "wide"))

    def of_pods(self, names, field):
        return self.kubectl("get", "pods", *names, "-o", f"jsonpath={{..{field}}}").split()

    def label(self, pod, key):
        [node] = self.of_pods([pod], "spec.nodeName")
        return json.loads(self.kubectl("get", "node", node, "-o", "jsonpath={.metadata.labels}"))[key]

    def test_machines_come_for_waiting_pods_and_go_when_idle(self):
        names = ["a-0", "a-1", "a-2"]
        self.create(names, 3, {"karpenter.sh/capacity-type": "spot", "node.kubernetes.io/instance-type": "small"})
        self.wait_running(names)
        nodes = set(self.of_pods(names, "spec.nodeName"))
        self.assertEqual(len(nodes), 3)
        self.assertLessEqual(nodes, {node.name for node in self.machines.running()})
        self.assertEqual(self.label("a-0", "node.kubernetes.io/instance-type"), "small")
        self.kubectl("delete", "pod", *names)
        muster.wait_until(lambda: not self.machines.running(), 120, "the idle machines to go",
                          lambda: self.kubectl("get", "nodes,nodeclaims", "-o", "wide"))

    def test_a_spot_machine_is_taken_back_and_another_one_bought(self):
        spot = {"karpenter.sh/capacity-type": "spot"}
        self.create(["c-0"], 3, spot)
        self.wait_running(["c-0"])
        [first] = self.of_pods(["c-0"], "spec.nodeName")
        self.machines.reclaim(first, notice_seconds=30)
        # Only now, or it might be put beside the other one.
        self.create(["c-1"], 3, spot)
        # Or another test finds a machine where it expects none.
        self.addCleanup(self.kubectl, "delete", "nodeclaims", "--all")
        self.addCleanup(self.kubectl, "delete", "pod", "c-1")
        self.wait_running(["c-1"])
        [second] = self.of_pods(["c-1"], "spec.nodeName")
        self.assertNotEqual(first, second)
        muster.wait_until(lambda: first not in self.kubectl("get", "nodes,nodeclaims", "-o", "wide"), 120, "the machine to go",
                          lambda: self.kubectl("get", "nodes,nodeclaims", "-o", "wide"))
        self.assertFalse(self.machines.nodes[first].is_on())

    def test_another_machine_is_bought_when_the_wanted_one_is_out_of_stock(self):
        self.machines.set_out_of_stock(("small", ""), ("large", "spot"))
        self.addCleanup(self.machines.set_out_of_stock)
        self.create(["b"], 3, {})
        self.addCleanup(self.kubectl, "delete", "pod", "b")
        self.wait_running(["b"])
        self.assertEqual((self.label("b", "node.kubernetes.io/instance-type"), self.label("b", "karpenter.sh/capacity-type")),
                         ("large", "on-demand"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
