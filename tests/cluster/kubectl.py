"""kubectl, as one user of one cluster."""

import json
import subprocess


class Kubectl:
    """`kubectl("get", "nodes")` is its output; what fails raises with what it said."""

    def __init__(self, program, kubeconfig):
        self._command = [str(program), f"--kubeconfig={kubeconfig}"]

    def command(self, *arguments):
        return [*self._command, *map(str, arguments)]

    def __call__(self, *arguments, text=None):
        done = subprocess.run(self.command(*arguments), input=text, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def create(self, *objects, namespace="default"):
        """Makes objects that are not there yet."""
        self("-n", namespace, "create", "-f", "-",
             text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
