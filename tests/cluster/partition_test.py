#!/usr/bin/env python3
"""The network between machines is cut while a job trains: whoever is cut off stops and says so, the others train on, nothing trains
twice, and when the network is whole again all are there, none of them started again, with the bits of a local run.

    MUSTER_BIN=build/bin tests/cluster/partition_test.py
"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.cluster_job import ClusterJob  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402

ON_THE_SMALL_SIDE = 2
ALL = 5


class Partition(fixture.ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A worker needs 3 processors: none fits on the coordinator's machine.
        cls.control = cls.machine("control", cpu=2)
        cls.small = cls.machine("small", cpu=7)
        cls.large = cls.machine("large", cpu=10)

    @classmethod
    def machine(cls, name, cpu):
        machine = ProcessNode(cls.cluster, name, cpu=cpu)
        cls.addClassCleanup(machine.close)
        return machine

    def setUp(self):
        super().setUp()
        self.kubectl("cordon", "small", "large")
        space = self.new_space()
        # The next test needs the room, also when this one fails.
        self.addCleanup(self.kubectl, "-n", space, "delete", "jobs,pods", "--all", "--force", "--grace-period=0")
        self.job = ClusterJob(self, space, {"pools": [
            {"name": "workers", "workers": f"1:{ALL}", "resources": {"cpu": "3"}}]}, steps=1_000_000, pace_ms=8)
        self.job.wait(lambda: self.job.pods("coordinator"), 60, "the coordinator")
        self.kubectl("uncordon", "small", "large")
        self.job.wait_size(ALL, 90)
        self.before = self.job.incarnations()
        self.known = len(self.job.changes())
        self.pods = {machine.name: [pod["metadata"]["name"] for pod in self.job.pods("worker")
                                    if pod["spec"]["nodeName"] == machine.name] for machine in (self.small, self.large)}
        self.assertEqual(len(self.pods["small"]), ON_THE_SMALL_SIDE)

    def wait_large_side(self, seconds):
        change = self.job.wait_size(ALL - ON_THE_SMALL_SIDE, seconds, after=self.known)
        large = [pod.removeprefix("demo-").split("-", 1)[1] for pod in self.pods["large"]]
        self.assertEqual(sorted(change["members_after"]), sorted(large))
        return change

    def end(self):
        """All train together again, and have the right bits."""
        self.job.wait_size(ALL, 60, after=self.known + 1)
        self.assertEqual(self.job.incarnations(), self.before, "nobody has been started again")
        finished = self.job.stop_and_finish(60)
        self.assertEqual(finished["weights"], self.job.undisturbed_weights(finished["step"]))

    def wait_said(self, text):
        """Until each worker of the small side has said that in its log."""
        self.job.wait(lambda: all(text in self.small.pod_log(self.job.space, pod) for pod in self.pods["small"]), 30,
                      f"them to say '{text}'")

    def test_the_larger_side_trains_on_where_both_reach_the_coordinator(self):
        self.small.part_from(self.large)
        self.addCleanup(self.small.meet_all)
        change = self.wait_large_side(30)
        self.assertIn("the network is cut: ", change["message"])
        self.wait_said("the network is cut: ")
        # While they are asked again and again, the others train.
        step = self.job.status()["step"]
        self.job.wait(lambda: len([line for line in self.job.objects() if line.get("event") == "proposal-dropped"]) >= 3, 60,
                      "some attempts to join")
        self.assertGreater(self.job.status()["step"], step)
        self.assertEqual(self.job.status()["world_size"], ALL - ON_THE_SMALL_SIDE)
        self.small.meet_all()
        self.end()

    def test_who_reaches_nobody_stops_and_comes_back(self):
        self.small.cut_off()
        self.addCleanup(self.small.join_up)
        self.wait_large_side(30)
        self.wait_said("no sign of life")
        self.small.join_up()
        self.end()


if __name__ == "__main__":
    unittest.main(verbosity=2)
