"""A faulty way to the API server: a proxy that passes everything on, and misbehaves as it is told.

    faulty_api.py ADDRESS PORT KEYS      inside the cluster; one line of JSON for each line of standard input, and ends with it

FaultyApi is the test's side. A line is {"rules": [...], "cut": true}; the rules replace those before, `cut` also breaks off the
watches that are open. A rule is {"match": REGEX, "do": WHAT, ...}; the first that matches "VERB PATH", with the verbs GET, LIST,
WATCH, POST, PUT, PATCH and DELETE, decides:
    answer    a Status with `status`, `reason`, `message` and, if given, `retry_after` seconds; the API server hears of nothing
    stall     the API server does it, and its answer comes `seconds` later
    silence   a watch, also one that is open, stays open and tells nothing more for ever
    stale     a list is answered as the first of its kind was
    expire    a token that was used before the rule came is as good as expired: the API server sees another signature
    hang_up   the connection ends without an answer
"""

import asyncio
import json
import pathlib
import re
import ssl
import subprocess
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.cluster import confinement  # noqa: E402
from tests.cluster.certificates import NODE_ADDRESS  # noqa: E402

PORT = 6444
UPSTREAM = ("127.0.0.1", 6443)
ANSWER_SECONDS = 10
CHUNK = 1 << 16


class FaultyApi:
    """A proxy in the network of `cluster`, at `address`, without faults at first."""

    def __init__(self, cluster):
        self.address = f"{NODE_ADDRESS}:{PORT}"
        self.process = subprocess.Popen(
            cluster.inside(sys.executable, __file__, NODE_ADDRESS, PORT, cluster.folder / "pki"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tell()

    def tell(self, *rules, cut=False):
        """From now on these rules; how often each of those before was obeyed."""
        self.process.stdin.write(json.dumps({"rules": rules, "cut": cut}) + "\n")
        self.process.stdin.flush()
        if not confinement.wait_input(self.process.stdout.fileno(), ANSWER_SECONDS):
            raise RuntimeError(f"the proxy of the API server has not answered within {ANSWER_SECONDS} s")
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(ANSWER_SECONDS)
        self.process.stdout.close()


class Rule:
    def __init__(self, fields, tokens):
        self.fields, self.obeyed = fields, 0
        self.pattern = re.compile(fields["match"])
        self.tokens = frozenset(tokens)  # those that "expire"

    def concerns(self, request):
        return self.pattern.search(request.what) and (self.does != "expire" or request.token in self.tokens)

    @property
    def does(self):
        return self.fields["do"]

    def status(self):
        """The whole answer, as the API server writes it."""
        code = self.fields["status"]
        body = json.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                           "reason": self.fields["reason"], "message": self.fields["message"]}).encode()
        retry = f"Retry-After: {self.fields['retry_after']}\r\n" if "retry_after" in self.fields else ""
        return (f"HTTP/1.1 {code} {self.fields['reason']}\r\nContent-Type: application/json\r\n{retry}"
                f"Content-Length: {len(body)}\r\n\r\n").encode() + body


class Request:
    def __init__(self, head, body):
        first, *self.headers = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.body = body
        self.token = self.header("authorization")
        path, _, query = self.target.partition("?")
        self.is_watch = urllib.parse.parse_qs(query).get("watch") == ["true"]
        is_list = self.method == "GET" and path.rsplit("/", 1)[-1] in ("pods", "configmaps", "events", "nodes")
        self.what = f"{'WATCH' if self.is_watch else 'LIST' if is_list else self.method} {path}"

    def header(self, name):
        return next((line.partition(":")[2].strip() for line in self.headers if line.lower().startswith(name + ":")), "")

    def upstream(self, expired):
        """As it is sent on. One connection for each: so the end of an answer is the end of the connection."""
        kept = [line for line in self.headers if line.partition(":")[0].lower() not in ("connection", "authorization")]
        # Reversed, a signature has its length and its letters.
        head, _, signature = self.token.rpartition(".")
        token = f"{head}.{signature[::-1]}" if expired else self.token
        lines = [f"{self.method} {self.target} HTTP/1.1", *kept, "Connection: close", *([f"Authorization: {token}"] if token else [])]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return Request(head, await reader.readexactly(int(length[1])) if length else b"")


class Proxy:
    def __init__(self, keys):
        self.rules, self.tokens, self.watches, self.lists = [], set(), set(), {}
        self.tasks = set()  # nobody else holds on to one that waits
        self.trust = ssl.create_default_context(cafile=keys / "ca.crt")
        self.identity = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.identity.load_cert_chain(keys / "apiserver.crt", keys / "apiserver.key")
        self.identity.set_alpn_protocols(["http/1.1"])

    def take(self, command):
        counts = [rule.obeyed for rule in self.rules]
        self.rules = [Rule(fields, self.tokens) for fields in command["rules"]]
        if command["cut"]:
            for writer in self.watches:
                writer.transport.abort()
        return counts

    def rule_for(self, request):
        return next((rule for rule in self.rules if rule.concerns(request)), None)

    async def serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            while await self.answer(await read_request(reader), reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # one of the sides has hung up, or this ends
        finally:
            self.tasks.discard(asyncio.current_task())
            self.watches.discard(writer)
            writer.transport.abort()

    async def answer(self, request, reader, writer):
        """Whether the connection is of use for more."""
        rule = self.rule_for(request)
        does = rule.does if rule else ""
        if rule and does != "silence":
            rule.obeyed += 1
        if does == "hang_up":
            return False
        if does == "answer":
            writer.write(rule.status())
            await writer.drain()
            return True
        if does == "stale" and request.target in self.lists:
            writer.write(self.lists[request.target])
            await writer.drain()
            return True
        if request.token:
            self.tokens.add(request.token)
        source, sink = await asyncio.open_connection(*UPSTREAM, ssl=self.trust, server_hostname="localhost")
        try:
            sink.write(request.upstream(expired=does == "expire"))
            await self.pass_on(request, rule.fields["seconds"] if does == "stall" else 0, source, reader, writer)
        finally:
            sink.transport.abort()
        return True

    async def pass_on(self, request, seconds, source, reader, writer):
        head = (await source.readuntil(b"\r\n\r\n")).replace(b"Connection: close\r\n", b"")
        await asyncio.sleep(seconds)
        writer.write(head)
        if request.is_watch:
            self.watches.add(writer)
        answer = [head]
        while data := await source.read(CHUNK):
            if request.is_watch and (rule := self.rule_for(request)) and rule.does == "silence":
                rule.obeyed += 1
                await reader.read(1)  # until the client has had enough
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
            if not request.is_watch:
                answer.append(data)
        if request.what.startswith("LIST"):
            self.lists.setdefault(request.target, b"".join(answer))
        self.watches.discard(writer)


async def main(address, port, keys):
    proxy = Proxy(pathlib.Path(keys))
    server = await asyncio.start_server(proxy.serve, address, int(port), ssl=proxy.identity)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        print(json.dumps(proxy.take(json.loads(line))), flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
