#!/usr/bin/env python3
"""Whole jobs on a real control plane: they grow with the autoscaler, lose machines in every way, and end with the bits of a local run.

    MUSTER_BIN=build/bin tests/cluster/job_test.py
"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.autoscaler import Machines  # noqa: E402
from tests.cluster.cluster_job import ClusterJob  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402
from tests.harness import muster  # noqa: E402


class Jobs(fixture.ClusterTest):
    flags = ("--autoscaler",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machines = Machines(cls.cluster)
        cls.addClassCleanup(cls.machines.close)
        # Where coordinators run: no test touches it.
        cls.base = ProcessNode(cls.cluster, "base", cpu=9)
        cls.addClassCleanup(cls.base.close)

    def machine_of(self, pod):
        return self.machines.nodes[pod["spec"]["nodeName"]]

    def bought(self, job):
        """The pods that run on machines of the autoscaler."""
        return [pod for pod in job.pods("worker") if pod["spec"]["nodeName"] in self.machines.nodes]

    def test_a_job_grows_with_the_cluster_and_shrinks_with_it(self):
        job = ClusterJob(self, self.new_space(), {"pools": [
            {"name": "workers", "workers": "2:6", "resources": {"cpu": "3"}}]}, steps=5000, pace_ms=8)
        job.wait_size(2, 60)  # two fit
        job.wait_size(6, 120)
        before = job.incarnations()

        # Drained: notice, a generation without it, no step lost.
        drained = self.bought(job)[0]
        self.kubectl("drain", drained["spec"]["nodeName"], "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        change = job.wait_left(drained, 30)
        self.assertEqual(change["steps_redone"], 0, job.explain())
        job.wait_size(6, 120, after=len(job.changes()))

        # Reclaimed with notice: the same.
        reclaimed = self.bought(job)[0]
        self.machines.reclaim(reclaimed["spec"]["nodeName"], 20)
        self.assertEqual(job.wait_left(reclaimed, 30)["steps_redone"], 0, job.explain())
        job.wait_size(6, 120, after=len(job.changes()))

        # Switched off: nobody is told.
        lost = self.bought(job)[0]
        self.machine_of(lost).switch_off()
        job.wait_left(lost, 30)
        after = job.incarnations()

        finished = job.finish(300)
        self.assertEqual(finished["weights"], job.undisturbed_weights())
        stayed = before.keys() & after.keys()  # no process of them was started again
        self.assertGreaterEqual(len(stayed), 2)
        self.assertEqual({worker: after[worker] for worker in stayed}, {worker: before[worker] for worker in stayed})
        muster.wait_until(lambda: not self.machines.running(), 120, "the idle machines to go",
                          lambda: self.kubectl("get", "nodes,nodeclaims", "-o", "wide"))

    def test_a_coordinator_that_is_killed_twice_comes_back(self):
        job = ClusterJob(self, self.new_space(), {"workers": "2:3"}, steps=1200, pace_ms=5)
        job.wait_size(3, 60)
        before = job.incarnations()
        for _ in range(2):
            epoch = int(job.data()["epoch"])
            [coordinator] = job.pods("coordinator")
            self.kubectl("-n", job.space, "delete", "pod", coordinator["metadata"]["name"], "--force", "--grace-period=0")
            job.wait(lambda: int(job.data().get("epoch", 0)) > epoch, 90, "the next coordinator")
        job.wait(lambda: [line.get("event") for line in job.objects()].count("coordinator") == 2, 30, "it to take over")
        self.assertEqual(job.incarnations(), before)
        self.assertEqual(job.finish(200)["weights"], job.undisturbed_weights())


if __name__ == "__main__":
    unittest.main(verbosity=2)
