#!/usr/bin/env python3
"""The test cluster itself, and k8s/client against its API server.

    MUSTER_BIN=build/bin tests/cluster/api_server_test.py
"""

import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.harness import muster, processes  # noqa: E402

TESTS = muster.BIN.parent / "tests"


class RealApiServer(fixture.ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        print(f"the cluster was ready after {cls.cluster.facts['seconds']} s", flush=True)

    def test_the_client_works_with_it(self):
        kill = f"pkill -KILL -f 'kube-apiserve[r].*{self.cluster.folder}'"
        done = subprocess.run([TESTS / "k8s_real_api_test", "--gtest_brief=1"], timeout=300,
                              env={**os.environ, "KUBECONFIG": self.cluster.kubeconfig,
                                   "MUSTER_KILL_API_SERVER": kill})
        self.assertEqual(done.returncode, 0)

    def test_nothing_of_it_listens_on_the_host_but_the_relay(self):
        listening = subprocess.run(["ss", "-Hltn"], check=True, capture_output=True, text=True).stdout
        for port in (2379, 2380, 6443, 10257, 10259):
            self.assertNotIn(f":{port} ", listening)


class Traces(fixture.ClusterTest):
    def test_nothing_is_left_when_its_owner_is_killed(self):
        left = lambda: processes.of_home(self.cluster.folder)  # noqa: E731
        self.assertGreaterEqual(len(left()), 5)
        self.cluster.process.send_signal(signal.SIGKILL)
        muster.wait_until(lambda: not left(), 10, "the end of the cluster's processes", lambda: str(left()))


if __name__ == "__main__":
    unittest.main(verbosity=2)
