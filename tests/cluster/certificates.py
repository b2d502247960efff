"""The keys of a test cluster: one authority that signs the server and every client, made with openssl."""

import pathlib
import subprocess

NODE_ADDRESS = "10.200.0.1"  # of the control plane
SERVICE_ADDRESS = "10.96.0.1"
MACHINES = range(1, 255)  # the numbers that machines may have


def machine_address(number):
    return f"10.200.{number}.1"


API_SERVER_NAMES = (
    ["DNS:localhost", "IP:127.0.0.1", f"IP:{NODE_ADDRESS}", f"IP:{SERVICE_ADDRESS}"]
    + [f"DNS:kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", ".default.svc.cluster.local")])
# One certificate for all machines: which of them has an address is no secret of theirs.
MACHINE_NAMES = [f"IP:{machine_address(number)}" for number in MACHINES]


def _openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


class Authority:
    """Keys and certificates in one folder: `NAME.key` and `NAME.crt`, signed by `ca.crt`."""

    def __init__(self, folder):
        """The authority of `folder`; a new one if that has none."""
        self.folder = pathlib.Path(folder)
        self.ca = self.folder / "ca.crt"
        self.service_account_key = self.folder / "service-accounts.key"
        self.service_account_public = self.folder / "service-accounts.pub"
        if not self.folder.exists():
            self._create()

    def _create(self):
        self.folder.mkdir(parents=True, mode=0o700)
        _openssl("req", "-x509", *self._new_key("ca"), "-out", self.ca, "-days", 30, "-subj", "/CN=muster-test-ca",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        _openssl("genrsa", "-out", self.service_account_key, 2048)
        _openssl("rsa", "-in", self.service_account_key, "-pubout", "-out", self.service_account_public)

    def _new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key(name)]

    def key(self, name):
        return self.folder / f"{name}.key"

    def certificate(self, name):
        return self.folder / f"{name}.crt"

    def sign(self, name, subject, server_names=()):
        """`subject` as openssl writes it: "/O=GROUP/CN=USER". Without names as whom it may serve, it is for a client only."""
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        usage = "serverAuth,clientAuth" if server_names else "clientAuth"
        names = f"subjectAltName={','.join(server_names)}\n" if server_names else ""
        extensions.write_text(f"keyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n{names}")
        _openssl("req", *self._new_key(name), "-out", request, "-subj", subject)
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key("ca"), "-CAcreateserial",
                 "-days", 30, "-out", self.certificate(name), "-extfile", extensions)
        request.unlink()
        extensions.unlink()

    def kubeconfig(self, name, server, path=None):
        """A kubeconfig file for the client `name`; returns its path."""
        path = path or self.folder / f"{name}.kubeconfig"
        path.write_text(
            "apiVersion: v1\nkind: Config\n"
            f"clusters:\n- name: test\n  cluster: {{server: \"{server}\", certificate-authority: {self.ca}}}\n"
            f"users:\n- name: {name}\n  user: {{client-certificate: {self.certificate(name)}, "
            f"client-key: {self.key(name)}}}\n"
            f"contexts:\n- name: test\n  context: {{cluster: test, user: {name}}}\ncurrent-context: test\n")
        return path
