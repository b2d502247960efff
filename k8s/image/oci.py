"""Container images without a registry, a container runtime or the network: one layer of files, in an archive.

What is written depends on nothing but the files: paths are sorted, times and owners fixed, nothing is compressed (the result of a
compressor changes with its version; a registry's client compresses what it pushes). The archive is an OCI layout, for
`ctr images import`, skopeo and crane, and has the manifest.json of `docker load` too.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import platform
import subprocess
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_EPOCH = "1970-01-01T00:00:00Z"


class Missing(Exception):
    """What should go into an image is not there; the text says what."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file, folder or symbolic link of an image."""

    kind: bytes  # of tarfile
    mode: int
    content: bytes = b""
    target: str = ""
    owner: int = 0


class Image:
    """The files of an image, by path, and how it is run; `write` puts them into an archive."""

    def __init__(self):
        self.entries = {}
        self.sources = set()  # paths of this machine whose files are in it
        # As on Debian: what programs name as /lib and /bin lies in /usr.
        for name in ("bin", "lib", "lib64", "sbin"):
            self.folder(f"/usr/{name}")
            self._add(f"/{name}", Entry(tarfile.SYMTYPE, 0o777, target=f"usr/{name}"))

    def _add(self, path, entry):
        parts = pathlib.PurePosixPath(path)
        if str(parts.parent) != "/":
            self.folder(str(parts.parent))
        self.entries[str(parts)] = entry

    def folder(self, path, mode=0o755, owner=0):
        if path not in self.entries or mode != 0o755 or owner:
            self._add(path, Entry(tarfile.DIRTYPE, mode, owner=owner))

    def text(self, path, text):
        self._add(_in_usr(path), Entry(tarfile.REGTYPE, 0o644, text.encode()))

    def file(self, path, source, mode=0o644):
        try:
            self._add(_in_usr(path), Entry(tarfile.REGTYPE, mode, pathlib.Path(source).read_bytes()))
            self.sources.add(os.path.realpath(source))
        except OSError as error:
            raise Missing(f"{source} cannot be read: {error.strerror}") from error

    def program(self, path, source):
        """A program, and the libraries that it needs."""
        self.file(path, source, 0o755)
        self.libraries_of(source)

    def libraries_of(self, program):
        """The shared libraries of `program` and its loader. They lie beside the C library, where the loader looks without a cache."""
        needed = libraries(program)
        home = os.path.dirname(next((path for name, path in needed.items() if name.startswith("libc.so")), "/lib/libc.so"))
        for name, path in needed.items():
            self.file(name if name.startswith("/") else f"{home}/{name}", path, 0o755)

    def write(self, path, name, user="", environment=(), entrypoint=None):
        """Writes the archive of the image `name` ("muster:1.0") to `path`; returns the digest of its manifest."""
        layer = _tar(self.entries)
        config = {"created": _EPOCH, "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()), "os": "linux",
                  "config": {"Env": list(environment), "WorkingDir": "/", **({"User": user} if user else {}),
                             **({"Entrypoint": entrypoint} if entrypoint else {})},
                  "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
                  "history": [{"created": _EPOCH, "created_by": "k8s/image"}]}
        blobs = _Blobs()
        layer_at = blobs.add(_LAYER, layer)
        config_at = blobs.add(_CONFIG, _json(config))
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config_at, "layers": [layer_at]}
        manifest_at = blobs.add(_MANIFEST, _json(manifest))
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {**manifest_at, "annotations": {"io.containerd.image.name": f"docker.io/library/{name}",
                                            "org.opencontainers.image.ref.name": name.rpartition(":")[2]}}]}
        for_docker = [{"Config": blobs.path(config_at), "RepoTags": [name], "Layers": [blobs.path(layer_at)]}]
        files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index),
                 "manifest.json": _json(for_docker), **blobs.files}
        partial = pathlib.Path(f"{path}.tmp")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(_tar({file: Entry(tarfile.REGTYPE, 0o644, content) for file, content in files.items()}))
        partial.rename(path)
        return manifest_at["digest"]


class _Blobs:
    def __init__(self):
        self.files = {}

    def add(self, media_type, content):
        at = {"mediaType": media_type, "digest": _digest(content), "size": len(content)}
        self.files[self.path(at)] = content
        return at

    @staticmethod
    def path(at):
        return "blobs/" + at["digest"].replace(":", "/")


def libraries(program):
    """What the loader would load for `program`: {name: path}, the loader itself under the path that the program names."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
    if done.returncode:
        if "not a dynamic executable" in done.stderr + done.stdout:
            return {}
        raise Missing(f"ldd {program}: {done.stderr.strip() or done.stdout.strip()}")
    found = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if "=>" in words:
            if words[2] == "not":
                raise Missing(f"{program} needs {words[0]}, which is not installed")
            found[words[0]] = words[2]
        elif words[0].startswith("/"):
            found[words[0]] = words[0]
    return found


def _in_usr(path):
    """Where `path` really lies in an image: /lib is a link to /usr/lib."""
    first = path.split("/")[1]
    return f"/usr{path}" if first in ("bin", "lib", "lib64", "sbin") else path


def _digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar(entries):
    """An archive of `entries`, by path; the same bytes for the same entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, entry in sorted(entries.items()):
            info = tarfile.TarInfo(path.lstrip("/"))
            info.type, info.mode, info.size, info.linkname = entry.kind, entry.mode, len(entry.content), entry.target
            info.uid = info.gid = entry.owner
            archive.addfile(info, io.BytesIO(entry.content))
    return buffer.getvalue()
