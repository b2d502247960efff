#!/usr/bin/env python3
"""Whole jobs on a real control plane: they grow with the autoscaler, lose machines in every way, and end with the bits of a local run.

    MUSTER_BIN=build/bin tests/cluster/job_test.py
"""

import json
import pathlib
import re
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.autoscaler import TYPES, Machines  # noqa: E402
from tests.cluster.cluster_job import ClusterJob  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402
from tests.harness import muster, processes  # noqa: E402


class Jobs(fixture.ClusterTest):
    flags = ("--autoscaler",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machines = Machines(cls.cluster, boot_seconds=5)
        cls.addClassCleanup(cls.machines.close)
        # Where coordinators run, and the first two workers: no test touches it. A third worker has no room beside them even while the
        # coordinator is away.
        cls.base = ProcessNode(cls.cluster, "base", cpu=8)
        cls.addClassCleanup(cls.base.close)

    def start(self):
        """A job of 2 to 8 workers, for two of which there is room."""
        job = ClusterJob(self, self.new_space(), {"pools": [
            {"name": "workers", "workers": "2:8", "resources": {"cpu": "3"}}]}, steps=1_000_000, pace_ms=8)
        job.wait_size(2, 60)
        return job

    def machine_of(self, pod):
        return self.machines.nodes[pod["spec"]["nodeName"]]

    def bought(self, job):
        """The pods that run on machines of the autoscaler."""
        return [pod for pod in job.pods("worker") if pod["spec"]["nodeName"] in self.machines.nodes]

    def agent(self, pod, device):
        """The process that looks after one of several workers of that pod."""
        slot = f"{pod['metadata']['name'].removeprefix('demo-').split('-', 1)[1]}-{device}"
        running = map(processes.read, processes.descendants(self.machine_of(pod).process.pid))
        return next(process.pid for process in running if process and process.slot == slot)

    def capacities(self):
        """Of the machines that are there; one whose node is gone is on its way out."""
        return {self.kubectl("get", "node", machine.name, "--ignore-not-found",
                             "-o", "jsonpath={.metadata.labels.karpenter\\.sh/capacity-type}")
                for machine in self.machines.running()} - {""}

    def kill_coordinator(self, job):
        """When it is gone; the next one is a matter of time."""
        [coordinator] = job.pods("coordinator")
        self.kubectl("-n", job.space, "delete", "pod", coordinator["metadata"]["name"], "--force", "--grace-period=0")

    def wait_coordinators(self, job, count):
        job.wait(lambda: [line.get("event") for line in job.objects()].count("coordinator") == count, 90, "the next coordinator")

    def assert_survived(self, before, after):
        """Who is in both has not been started again, and the first two are."""
        stayed = before.keys() & after.keys()
        self.assertGreaterEqual(len(stayed), 2)
        self.assertEqual({worker: after[worker] for worker in stayed}, {worker: before[worker] for worker in stayed})

    def assert_no_step_lost(self, job, after):
        self.assertEqual(sum(change["steps_redone"] for change in job.changes()[after:]), 0, job.explain())

    def end(self, job):
        """Stops it: it has the bits of a local run, and its machines go."""
        finished = job.stop_and_finish(60)
        self.assertEqual(finished["weights"], job.undisturbed_weights(finished["step"]))
        muster.wait_until(lambda: not self.machines.running(), 120, "the idle machines to go",
                          lambda: self.kubectl("get", "nodes,nodeclaims", "-o", "wide"))

    def test_a_job_grows_with_the_cluster_and_shrinks_with_it(self):
        job = self.start()
        job.wait_size(8, 120)
        before = job.incarnations()
        known = len(job.changes())

        drained = self.bought(job)[0]
        self.kubectl("drain", drained["spec"]["nodeName"], "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        job.wait_left(drained, 30)
        job.wait_size(8, 120, after=known + 1)

        reclaimed, change = self.bought(job)[0], len(job.changes())
        self.machines.reclaim(reclaimed["spec"]["nodeName"], 20)
        job.wait_left(reclaimed, 30)
        job.wait_size(8, 120, after=change + 1)
        self.assert_no_step_lost(job, known)  # there was notice

        lost, change = self.bought(job)[0], len(job.changes())
        self.machine_of(lost).switch_off()  # nobody is told
        job.wait_left(lost, 30)
        job.wait_size(8, 180, after=change + 1)
        self.assert_survived(before, job.incarnations())
        self.end(job)

    def test_it_does_so_with_other_machines_than_wanted_and_while_coordinators_die(self):
        self.machines.set_out_of_stock(*((kind["name"], "spot") for kind in TYPES))
        self.addCleanup(self.machines.set_out_of_stock)
        job = self.start()
        before = job.incarnations()
        self.kill_coordinator(job)  # with six pods that wait for a machine
        job.wait_size(8, 120)
        self.wait_coordinators(job, 1)
        self.assertEqual(self.capacities(), {"on-demand"})
        known = len(job.changes())

        # There are cheaper ones again, so machines are replaced.
        self.machines.set_out_of_stock()
        job.wait(lambda: len(job.changes()) > known, 120, "the autoscaler to replace machines")
        self.kill_coordinator(job)
        self.wait_coordinators(job, 2)
        job.wait(lambda: self.capacities() == {"spot"}, 180, "the dearer machines to go")
        job.wait(lambda: len(job.incarnations()) == 8, 120, "8 workers again")
        self.assert_survived(before, job.incarnations())
        self.end(job)

    def test_workers_that_share_a_pod_come_and_go_together(self):
        job = ClusterJob(self, self.new_space(), {"pools": [
            {"name": "workers", "workers": "2:4", "device": {"kind": "cpu", "count": 2}, "resources": {"cpu": "3"}},
            {"name": "giant", "workers": "0:1", "resources": {"cpu": "300"}}]}, steps=1_000_000, pace_ms=4)
        job.wait_size(2, 60)
        job.wait_size(4, 120)
        job.wait(lambda: re.search("giant-1: has no node yet: .*; Karpenter adds none: .*no instance type has enough resources",
                                   job.home.launcher("status", "demo").stdout), 60, "why no machine comes for the giant")
        [pod] = self.bought(job)
        known = len(job.changes())
        self.kubectl("drain", pod["spec"]["nodeName"], "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        change = job.wait_left(pod, 30)
        self.assertEqual(len(change["members_after"]), 2)
        job.wait_size(4, 120, after=known + 1)
        self.assert_no_step_lost(job, known)

        worker = job.incarnations().popitem()[0]
        lines = job.home.launcher("logs", "demo", "--workers", worker, "-o", "json").stdout.splitlines()
        self.assertIn(f"{worker} started", "".join(json.loads(line)["line"] for line in lines))
        self.assertLessEqual({json.loads(line)["worker"] for line in lines}, {worker, worker.rsplit("-", 1)[0]})

        # Nobody looks after a worker whose agent is gone, so its pod is replaced.
        [pod], known = self.bought(job), len(job.changes())
        muster.send(self.agent(pod, 1), signal.SIGKILL)
        job.wait_left(pod, 30)
        job.wait_size(4, 120, after=known + 1)
        self.assertNotEqual([after["metadata"]["name"] for after in self.bought(job)], [pod["metadata"]["name"]])
        self.end(job)


if __name__ == "__main__":
    unittest.main(verbosity=2)
