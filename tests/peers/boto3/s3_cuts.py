"""A proxy before S3 that cuts what `kinesink run` sends, and what it is answered: puts, parts and completions.

Run on the local S3, and on a server that no one here wrote. KINESINK must have the feature `planted-faults`, with which parts
may be as small as S3 takes them.
"""

import collections
import json
import os
import random
import socket
import threading
import urllib.parse

from pipelines import Pipeline

SEED = 11
PART_BYTES = 5 * 1024 * 1024
# A window is an object in two parts and a small one.
WINDOWS, LARGE, SMALL, LARGE_BYTES = 5, 120, 40, 60_000
SOCKET_SECONDS = 30
KINDS = ["put", "part", "completion"]
# In the midst of the request's body; in the midst of the answer; and before it, where the request has been done.
CUTS = ["amid the body", "amid the answer", "before the answer"]


class Proxy:
    """Of each kind of request the first are cut, one in each way."""

    def __init__(self, upstream):
        self.upstream = urllib.parse.urlsplit(upstream)
        self.lock, self.cut = threading.Lock(), collections.Counter()
        self.left = {kind: list(CUTS) for kind in KINDS}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        """One request of a connection, which ends with it."""
        with client, client.makefile("rb") as reader:
            client.settimeout(SOCKET_SECONDS)
            lines = []
            while (line := reader.readline()) not in (b"\r\n", b""):
                lines.append(line)
            if not line:
                return
            headers = dict(line.lower().rstrip().split(b": ", 1) for line in lines[1:])
            length = int(headers.get(b"content-length", 0))
            if headers.get(b"expect") == b"100-continue":
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            # The server ends its answer by ending the connection.
            lines = [line for line in lines if not line.lower().startswith((b"connection:", b"expect:"))]
            head = b"".join(lines) + b"connection: close\r\n\r\n"
            cut = self.next_cut(lines[0].decode())
            with socket.create_connection((self.upstream.hostname, self.upstream.port), timeout=SOCKET_SECONDS) as server:
                if cut == "amid the body":
                    return server.sendall(head + reader.read(length // 2))
                server.sendall(head + reader.read(length))
                answer = b""
                while received := server.recv(65536):
                    answer += received
            if cut is None:
                client.sendall(answer)
            elif cut == "amid the answer":
                client.sendall(answer[: len(answer) // 2])

    def next_cut(self, request):
        method, target, _ = request.split(" ")
        path, _, query = target.partition("?")
        kind = None
        if "uploadId" in query:
            kind = {"PUT": "part", "POST": "completion"}.get(method)
        elif method == "PUT" and "_kinesink_check_" not in path:
            kind = "put"
        with self.lock:
            cut = self.left[kind].pop(0) if self.left.get(kind) else None
            if cut:
                self.cut[kind, cut] += 1
            return cut


class Cuts(Pipeline):
    name = "cut"

    def test_whatever_is_cut_each_record_is_there_once_and_no_upload_is_left(self):
        chance = random.Random(SEED)
        records = {"large": [], "small": []}
        for number in range(WINDOWS * (LARGE + SMALL)):
            size = "large" if number % (LARGE + SMALL) < LARGE else "small"
            text = chance.randbytes(LARGE_BYTES // 2).hex() if size == "large" else ""
            record = json.dumps({"n": number, "size": size, "text": text}).encode()
            records[size].append(record)
            self.put([record])
        proxy = Proxy(os.environ["AWS_ENDPOINT_URL_S3"])
        self.addCleanup(proxy.listener.close)
        sink = f"""
[[sink]]
type = "s3"
url = "s3://{self.name}/objects"
key = "size={{.size}}/{{shard}}-{{first}}-{{last}}"
format = "ndjson"
compression = "none"
path_style = true
endpoint = "{proxy.address}"
"""
        self.run_until(LARGE + SMALL, sink, lambda: len(self.listed()) == 2 * WINDOWS, f"--part-bytes={PART_BYTES}")

        self.assertEqual(proxy.cut, {(kind, cut): 1 for kind in KINDS for cut in CUTS})
        for each in self.listed():
            self.assertEqual("-" in each["ETag"], "size=large" in each["Key"], f"{each}: whether it was sent in parts")
        for size, want in records.items():
            lines = []
            for key, count, body in self.objects():
                if f"size={size}/" in key:
                    lines += body.splitlines()
                    self.assertEqual(body.count(b"\n"), count)
            # The keys of a partition are in the order of the stream.
            self.assertTrue(lines == want, f"{size} records lack, are doubled, or out of order")
        self.assertEqual(self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", []), [])
