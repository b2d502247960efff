#!/usr/bin/env python3
"""The stock image and the pods of a job on a real kubelet with containerd and runc.

    MUSTER_BIN=build/bin tests/cluster/kubelet_test.py
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import cluster as fixture  # noqa: E402
from tests.cluster import kubelet_node  # noqa: E402
from tests.cluster.node_network import link_of  # noqa: E402
from tests.harness import muster, processes  # noqa: E402

NODE = "node-k"
PROBE = "muster-probe:1"  # the stock image with a shell and a training program in it
ODD = "$(MUSTER_RUN) costs $5 or $$6"


def build_image(output, *arguments):
    subprocess.run([muster.ROOT / "k8s" / "image" / "build", "--launcher", muster.LAUNCHER, "-o", output, *arguments],
                   check=True, stdout=subprocess.DEVNULL)
    return output


def host():
    """What a kubelet and containerd change on a machine where nothing is hidden from them."""
    folders = [pathlib.Path(name) for name in ("/run/netns", "/run/containerd", "/run/flannel", "/var/lib/kubelet", "/var/lib/containerd",
                                               "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/opt/containerd", "/opt/cni",
                                               "/etc/cni")]
    settings = [pathlib.Path("/proc/sys") / name for name in kubelet_node.SETTINGS]
    return ({str(folder): sorted(os.listdir(folder)) if folder.exists() else None for folder in folders},
            {str(setting): setting.read_text() for setting in settings if setting.exists()})


class KubeletTest(fixture.ClusterTest):
    @classmethod
    def setUpClass(cls):
        lacking = kubelet_node.missing()
        if lacking:
            raise unittest.SkipTest(lacking)
        cls.host = host()
        super().setUpClass()
        cls.stock = build_image(cls.cluster.folder / "stock.tar")
        cls.probe = build_image(cls.cluster.folder / "probe.tar", "--name", PROBE, "--add", "/usr/bin/bash", "--add", "/usr/bin/cp",
                                "--add", muster.BIN / "digits")


class Pods(KubeletTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node = kubelet_node.KubeletNode(cls.cluster, NODE, images=[cls.stock, cls.probe])
        cls.addClassCleanup(cls.node.close)

    def setUp(self):
        self.space = self.new_space()

    def rendered(self):
        """The objects of a run, in the order in which they can be made, with what only the API server knows filled in."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(f"program: {{path: {muster.BIN}/digits}}\nworkers: 1:2\n"
                       f"environment: {{ODD: '{ODD}'}}\n")
            file.flush()
            done = subprocess.run([muster.LAUNCHER, "render", "-n", self.space, "-f", file.name, "-o", "json"], check=True,
                                  capture_output=True, text=True)
        return {item["kind"]: item for item in json.loads(done.stdout)["items"]}

    def make_run(self):
        """Makes all objects of a run but its pods and returns these, with what only the API server knows filled in."""
        objects = self.rendered()
        self.kubectl.create(objects.pop("ConfigMap"), namespace=self.space)
        [uid] = self.get("configmaps", "-l", "app.kubernetes.io/managed-by=muster", "-o", "jsonpath={.items[*].metadata.uid}").split()
        for item in objects.values():
            item["metadata"]["ownerReferences"][0]["uid"] = uid
        pod, job = objects.pop("Pod"), objects.pop("Job")
        self.kubectl.create(*objects.values(), namespace=self.space)
        return pod, job

    def get(self, *arguments):
        return self.kubectl("-n", self.space, "get", *arguments)

    def logs(self, *arguments):
        return self.kubectl("-n", self.space, "logs", *arguments)

    def container_state(self, *pod):
        """How the only container of a pod is; by the pod's name or by labels. Nothing before it has begun to run."""
        items = json.loads(self.get("pods", *pod, "-o", "json"))
        [item] = items.get("items", [items])[:1] or [{}]
        [container] = item.get("status", {}).get("containerStatuses", [{}])
        state = container.get("state", {})
        return {how: state[how] for how in ("running", "terminated") if how in state}

    def explain(self):
        return self.kubectl("-n", self.space, "describe", "pods")

    def ended(self, pod):
        """The state in which the only container of a pod has ended."""
        return muster.wait_until(lambda: self.container_state(pod).get("terminated"), 60, f"the end of pod {pod}", self.explain)

    def run_pod(self, pod, script=None):
        if script:
            [container] = pod["spec"]["containers"]
            container.update(image=PROBE, command=["bash", "-c", script])
        self.kubectl.create(pod, namespace=self.space)
        return self.ended(pod["metadata"]["name"])

    def test_the_launcher_of_the_stock_image_runs(self):
        pod, _ = self.make_run()
        [container] = pod["spec"]["containers"]
        container["command"] = ["launcher", "version"]
        end = self.run_pod(pod)
        self.assertEqual((end["exitCode"], end["reason"]), (0, "Completed"), self.logs(pod["metadata"]["name"]))
        version = subprocess.run([muster.LAUNCHER, "version"], check=True, capture_output=True, text=True).stdout
        self.assertEqual(self.logs(pod["metadata"]["name"]), version)

    def test_a_worker_writes_to_memory_only(self):
        pod, _ = self.make_run()
        self.run_pod(pod, """
            for place in /muster/job /tmp; do
              cp /usr/local/bin/launcher $place/sent && $place/sent version
              while read -r _ at type _; do [ $at = $place ] && echo "$place is $type"; done < /proc/mounts
            done
            for place in / /muster /usr/local/bin /muster/secret; do echo x 2>&1 > $place/x || echo "cannot write to $place"; done
            read -r secret < /muster/secret/secret || [ "$secret" ] && echo "secret of ${#secret}"
            echo "user $UID in $PWD, groups ${GROUPS[*]}" """)
        lines = [line for line in self.logs(pod["metadata"]["name"]).splitlines() if not line.startswith("bash:")]
        version = subprocess.run([muster.LAUNCHER, "version"], check=True, capture_output=True, text=True).stdout.strip()
        self.assertEqual(lines[:4], [version, "/muster/job is tmpfs", version, "/tmp is tmpfs"])
        self.assertEqual(lines[4:8], [f"cannot write to {place}" for place in ("/", "/muster", "/usr/local/bin", "/muster/secret")])
        self.assertRegex(lines[8], r"secret of [1-9]\d")
        self.assertEqual(lines[9], "user 65532 in /muster/job, groups 65532")

    def test_variables_arrive_as_they_were_written(self):
        pod, _ = self.make_run()
        self.run_pod(pod, 'echo "$ODD"; echo "$MUSTER_POD_NAME $MUSTER_NAMESPACE"')
        self.assertEqual(self.logs(pod["metadata"]["name"]).splitlines(), [ODD, f"{pod['metadata']['name']} {self.space}"])

    def test_a_pod_reaches_the_api_server_by_its_service(self):
        pod, _ = self.make_run()
        end = self.run_pod(pod, "exec 3<>/dev/tcp/10.96.0.1/443 && echo reached")
        self.assertEqual((end["exitCode"], self.logs(pod["metadata"]["name"])), (0, "reached\n"))

    def test_what_render_prints_is_accepted_and_starts(self):
        pod, job = self.make_run()
        self.kubectl.create(pod, job, namespace=self.space)
        for which in ([pod["metadata"]["name"]], ["-l", "app.kubernetes.io/component=coordinator"]):
            state = muster.wait_until(lambda: self.container_state(*which), 60, f"a container of {which}", self.explain)
            # As opposed to "StartError" and "ContainerCannotRun". They do not get far: render does not know the Service's address.
            self.assertIn(state.get("terminated", {}).get("reason", "Running"), ("Running", "Completed", "Error"))

    def test_a_job_whose_image_has_the_program_ends_with_the_bits_of_a_local_run(self):
        self.run_digits({"image": PROBE}, "/usr/local/bin/digits")

    def test_a_program_that_is_sent_runs_in_the_stock_image(self):
        self.run_digits({}, str(muster.BIN / "digits"))

    def test_an_image_that_is_not_there_is_told(self):
        home = self.laptop({"image": "nowhere:1"}, "/digits")
        done = home.launcher("run", "-n", self.space, "-f", "job.yaml", "--name", "nowhere", "--detach", "-y")
        self.assertEqual(done.returncode, 0, done.stderr)
        told = lambda: home.json("status", "nowhere")["message"]  # noqa: E731
        muster.wait_until(lambda: 'cannot get its image: Failed to pull image "nowhere:1"' in told(), 60, "the image to be told", told)
        home.launcher("stop", "nowhere", "--now", "-y")

    def laptop(self, job_file, program, words=()):
        """A machine of the user's, with a job file."""
        home = muster.Home()
        self.addCleanup(home.close)
        home.environment["KUBECONFIG"] = str(self.cluster.kubeconfig)
        (home.work / "job.yaml").write_text(json.dumps({
            "platform": "kubernetes", "workers": "2", "program": {"path": program, "args": words}, **job_file}))
        return home

    def run_digits(self, job_file, program):
        words = ["--steps", "60", "--seed", "7"]
        home = self.laptop(job_file, program, words)
        done = home.launcher("run", "-n", self.space, "-f", "job.yaml", "-y", "-o", "json", seconds=180)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.explain())
        [finished] = [event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "finished"]
        self.assertEqual(finished["weights"], home.by_hand("digits", *words)["weights"])

    def test_the_logs_of_a_pod_can_be_followed(self):
        pod, _ = self.make_run()
        [container] = pod["spec"]["containers"]
        container.update(image=PROBE, command=["bash", "-c", "echo first; read -r -t 60 <> <(:); echo never"])
        self.kubectl.create(pod, namespace=self.space)
        self.kubectl("-n", self.space, "wait", "--for=condition=Ready", "--timeout=60s", "pod", pod["metadata"]["name"])
        follow = subprocess.Popen(self.kubectl.command("-n", self.space, "logs", "-f", pod["metadata"]["name"]),
                                  stdout=subprocess.PIPE, text=True)
        with contextlib.closing(follow.stdout):
            self.assertEqual(follow.stdout.readline(), "first\n")
            self.kubectl("-n", self.space, "delete", "pod", pod["metadata"]["name"], "--grace-period=1", "--wait=false")
            self.assertEqual(follow.stdout.read(), "")
        self.assertEqual(follow.wait(timeout=30), 0)


class Traces(KubeletTest):
    def start_pod(self, name):
        self.kubectl.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "nodeSelector": {"kubernetes.io/hostname": name}, "containers": [
                {"name": "c", "image": PROBE, "command": ["bash", "-c", "sleep() { read -r -t $1 <> <(:); }; sleep 1000 & sleep 1000"],
                 "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}})
        self.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"pod/{name}")

    def links(self):
        return subprocess.run(self.cluster.inside("ip", "-o", "link"), check=True, capture_output=True, text=True).stdout

    def left(self, node):
        """Processes and control groups of a node."""
        return processes.of_home(node.folder), kubelet_node.tops(node.group)

    def test_nothing_is_left_of_a_node_that_is_closed_nor_when_the_owner_of_the_cluster_is_killed(self):
        first = kubelet_node.KubeletNode(self.cluster, "first", images=[self.probe])
        self.addCleanup(first.close)
        self.start_pod("first")
        running, groups = self.left(first)
        self.assertGreaterEqual(len(running), 4, "containerd, kubelet and a shim for each pod")
        self.assertTrue(groups)
        self.assertIn(link_of(first.number), self.links())
        first.close()
        self.assertEqual(self.left(first), ([], []))
        muster.wait_until(lambda: link_of(first.number) not in self.links(), 10, "the end of its network", self.links)

        second = kubelet_node.KubeletNode(self.cluster, "second", images=[self.probe])
        self.addCleanup(second.close)
        self.start_pod("second")
        self.cluster.process.send_signal(signal.SIGKILL)
        muster.wait_until(lambda: self.left(second) == ([], []), 20, "the end of the node", lambda: str(self.left(second)))
        self.assertEqual(host(), self.host)


if __name__ == "__main__":
    unittest.main(verbosity=2)
