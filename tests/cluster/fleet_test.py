#!/usr/bin/env python3
"""The record of a run and the shell of its fleet against a real API server; the nodes exist on paper.

    MUSTER_BIN=build/bin tests/cluster/fleet_test.py
"""

import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.harness import muster  # noqa: E402

TESTS = muster.BIN.parent / "tests"


class Fleet(fixture.ClusterTest):
    flags = ("--kwok", "4")

    def test_it_works_with_a_real_api_server(self):
        # Workers tolerate nothing.
        self.kubectl("taint", "nodes", "-l", "type=kwok", "kwok.x-k8s.io/node-")
        kill = f"pkill -KILL -f 'kube-apiserve[r].*{self.cluster.folder}'"
        done = subprocess.run([TESTS / "fleet_cluster_test", "--gtest_brief=1"], timeout=400,
                              env={**os.environ, "KUBECONFIG": self.cluster.kubeconfig, "MUSTER_KILL_API_SERVER": kill,
                                   "MUSTER_KUBECTL": " ".join(self.kubectl.command())})
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
