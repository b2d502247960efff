#!/usr/bin/env python3
"""A whole job whose coordinator sees the API server through a faulty proxy: training goes on, and `events` say what is wrong.

    MUSTER_BIN=build/bin tests/cluster/api_faults_test.py
"""

import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster.cluster_job import ClusterJob  # noqa: E402
from tests.cluster.faulty_api import FaultyApi  # noqa: E402
from tests.cluster.process_nodes import ProcessNode  # noqa: E402
from tests.harness import muster  # noqa: E402

RECORD, WATCH, LIST = "/configmaps/", "^WATCH .*/pods$", "^LIST .*/pods$"


def answer(match, status, reason, **more):
    return {"match": match, "do": "answer", "status": status, "reason": reason, "message": f"{reason} by the test", **more}


class ApiFaults(fixture.ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.api = FaultyApi(cls.cluster)
        cls.addClassCleanup(cls.api.close)
        cls.node = ProcessNode(cls.cluster, "node", api_server=cls.api.address)
        cls.addClassCleanup(cls.node.close)

    def setUp(self):
        self.addCleanup(self.api.tell)
        self.job = ClusterJob(self, self.new_space(), {"workers": "2:3"}, steps=100_000, pace_ms=15)
        self.job.wait_size(3, 60)
        self.said = len(self.job.objects())  # what came before is of no interest

    def wait_said(self, event, pattern, seconds, since=None):
        """The sentence of such an event that matches, after the last fault or after the line `since`."""
        since = self.said if since is None else since

        def found():
            return next((line["message"] for line in self.job.objects()[since:] if line.get("event") == event
                         and re.search(pattern, line["message"])), None)
        return self.job.wait(found, seconds, f"an event {event} that says {pattern}")

    def faults(self):
        """What `status` says is wrong now."""
        return " ".join(self.job.status()["platform_status"]["faults"])

    def wait_steps(self, steps=20, seconds=30):
        step = self.job.step
        self.job.wait(lambda: self.job.step >= step + steps, seconds, f"{steps} more steps")

    def over(self, *whats, but=()):
        """No fault any more, apart from the rules `but`, which is said of each of `whats`."""
        self.api.tell(*but)
        for what in whats:
            self.wait_said("api-recovered", f"{what}: works again, after [0-9]+ failures", 45)
        self.said = len(self.job.objects())

    def names(self):
        """All worker pods that there have ever been, in order."""
        logs = self.node.folder.glob(f"{self.job.space}_demo-*-workers-*.log")
        return sorted((log.stem.split("_", 1)[1] for log in logs), key=lambda name: int(name.rsplit("-", 1)[1]))

    def end(self):
        """Stops the job; its weights are those of a local run, and nothing is left."""
        self.job.stop()
        finished = self.job.finish(60)
        self.assertEqual(finished["weights"], self.job.undisturbed_weights(finished["step"]))

    def test_training_goes_on_through_every_fault_and_events_tell_of_each(self):
        job, api, said = self.job, self.api, self.wait_said
        before, changes = job.incarnations(), len(job.changes())
        [coordinator] = job.pods("coordinator")
        silent = {"match": WATCH, "do": "silence"}  # for all the time of the faults of the record
        record, watch, begin = "record of the run", "watch of pods", self.said

        api.tell(silent, answer(RECORD, 500, "InternalError"))
        said("api-fault", f"{record}: PATCH .*: 500 InternalError: InternalError by the test", 30)
        self.wait_steps()
        self.over(record, but=[silent])

        # The tokens that were in use are expired now; the next one is good, although the fault lasts.
        expired = {"match": ".", "do": "expire"}
        api.tell(silent, expired)
        said("api-fault", f"{record}: PATCH .*: 401 Unauthorized", 30)
        self.wait_steps()
        self.node.renew_token(job.space, coordinator["metadata"]["name"], coordinator["spec"]["serviceAccountName"])
        said("api-recovered", f"{record}: works again.*401 Unauthorized", 45)
        self.assertGreater(sum(api.tell(silent)), 0)

        self.said = len(job.objects())
        for rule, says in ((answer(RECORD, 403, "Forbidden"), "403 Forbidden: Forbidden by the test"),
                           (answer(f"^PATCH .*{RECORD}", 409, "Conflict"), "others have written it between each read and write")):
            api.tell(silent, rule)
            said("api-fault", f"{record}: .*{says}", 30)
            self.wait_steps()
            self.over(record, but=[silent])

        api.tell(silent, {"match": ".", "do": "stall", "seconds": 30})
        said("api-fault", f"{record}: ", 40)
        self.wait_steps()
        said("api-fault", f"{watch}: the watch is silent; it is opened again", 90, since=begin)
        self.over(record)
        said("api-recovered", f"{watch}: works again, after 1 failures", 45, since=begin)

        # No connection at all, then a version that is forgotten, a right that is missing and a server that is busy.
        api.tell({"match": ".", "do": "hang_up"}, cut=True)
        said("api-fault", f"{record}: ", 30)
        said("api-fault", f"{watch}: the watch failed", 30)
        self.wait_steps()
        api.tell(answer(WATCH, 410, "Expired"))
        job.wait(lambda: "resource version is too old" in self.faults(), 30, "410 in the status")
        self.over(record, watch)
        api.tell(answer(WATCH, 403, "Forbidden"), answer(RECORD, 429, "TooManyRequests", retry_after=1), cut=True)
        said("api-fault", f"{record}: PATCH .*: 429 TooManyRequests", 30)
        job.wait(lambda: "403 Forbidden" in self.faults(), 30, "403 in the status")
        self.wait_steps()
        self.over(record, watch)

        self.assertEqual(len(job.changes()), changes, "no membership has changed")
        self.assertEqual(job.incarnations(), before)
        self.assertEqual(len(self.names()), 3)
        self.end()

    def lose(self):
        """A worker's pod is gone at once; it."""
        victim = self.job.pods("worker")[0]
        self.job.kubectl("-n", self.job.space, "delete", "pod", victim["metadata"]["name"], "--force", "--grace-period=0")
        return victim

    def whole_again(self, victim, pods):
        """The ring goes on without it, then with three again; so many pods were made in all, and none twice."""
        changes = len(self.job.changes())
        self.job.wait_left(victim, 60)
        self.job.wait(lambda: len(self.job.changes()[-1]["members_after"]) == 3, 60, "three workers again")
        self.assertLessEqual(len(self.job.changes()) - changes, 2)
        self.assertEqual(len(self.names()), pods, self.names())
        self.said = len(self.job.objects())

    def test_a_worker_that_is_lost_meanwhile_is_replaced_once(self):
        job, api, said = self.job, self.api, self.wait_said
        record = "record of the run"
        survivors = job.incarnations()

        # Nothing tells of the pods but lists. They are asked for because a worker has left.
        api.tell({"match": WATCH, "do": "silence"})
        self.whole_again(self.lose(), pods=4)
        api.tell()

        # Who goes on is decided once it can be recorded.
        api.tell(answer(".", 500, "InternalError"))
        said("api-fault", f"{record}: .*500 InternalError", 30)
        victim = self.lose()
        said("journal-failed", "generation [0-9]+ waits until it is recorded: .*500.*look at the API server", 30)
        api.tell()
        self.whole_again(victim, pods=5)

        api.tell({"match": ".", "do": "stall", "seconds": 30})
        victim = self.lose()
        said("journal-failed", "generation [0-9]+ waits until it is recorded: .*look at the API server", 45)
        api.tell()
        self.whole_again(victim, pods=6)

        # The first list was an empty one.
        api.tell({"match": LIST, "do": "stale"}, answer(WATCH, 410, "Expired"), cut=True)
        said("api-fault", "list of pods: .*older", 30)
        victim = self.lose()
        job.wait_left(victim, 30)
        self.wait_steps()
        self.assertEqual(len(self.names()), 6)
        api.tell()
        self.whole_again(victim, pods=7)

        after = job.incarnations()
        self.assertGreaterEqual(len(after), 3)
        self.assertEqual([name for name in survivors if name in after and survivors[name] != after[name]], [])
        job.resize("2:4")
        job.wait(lambda: len(job.changes()[-1]["members_after"]) == 4, 60, "four workers")
        self.assertEqual(len(self.names()), 8)
        self.end()


if __name__ == "__main__":
    unittest.main(verbosity=2)
