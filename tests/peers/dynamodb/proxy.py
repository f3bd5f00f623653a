"""An HTTP proxy before a DynamoDB, where writes go wrong: throttled, failed, cut, answered too late, or made long after. Of every
third batch some items are left over, and a request with a poisoned item is refused as a whole, without saying which it is, until that is
mended. Each worker has a path of its own there, so that it is known who wrote what without a condition."""

import http.client
import json
import random
import socket
import threading
import time
import urllib.parse
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WRITES = {"PutItem", "UpdateItem", "BatchWriteItem", "TransactWriteItems"}
FAULTS = ["throttled", "hot", "failed", "cut", "lost", "late", "slow"]
LEFT_OVER, INVALID = "left over", "invalid"
LEFT_OVER_EVERY = 3
POISON = "no table takes this"
SHARE = 0.15
LATE_S_MAX = 4


@dataclass
class Unguarded:
    """A write of an item without a condition, as it was made: by whom, which state of the item, whether its sender had given it up."""

    worker: str
    state: object
    given_up: bool
    began: float
    ended: float


class Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream, seed):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.counts = dict.fromkeys(FAULTS + [LEFT_OVER, INVALID], 0)
        self.batches = 0
        self.pending = []
        self.mended = False
        # Of what counts alone, while workers run.
        self.counts_mended = False
        self.unguarded = defaultdict(list)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A worker is killed in the midst of what it sends."""

    def address(self, worker):
        return f"http://127.0.0.1:{self.server_port}/{worker}"

    def fault(self, operation):
        with self.lock:
            if operation not in WRITES or self.random.random() >= SHARE:
                return None, 0
            fault = self.random.choice(FAULTS)
            self.counts[fault] += 1
            return fault, self.random.uniform(0, LATE_S_MAX)

    def left_over(self, batch):
        """Takes items out of every third batch, and says which, as the service does."""
        with self.lock:
            self.batches += 1
            if self.batches % LEFT_OVER_EVERY:
                return {}
            self.counts[LEFT_OVER] += 1
            ((table, requests),) = batch["RequestItems"].items()
            self.random.shuffle(requests)
            count = self.random.randint(1, len(requests))
            left, batch["RequestItems"][table] = requests[:count], requests[count:]
            return {table: left}

    def forward(self, worker, headers, body, is_given_up):
        began = time.monotonic()
        status, reply_headers, reply = self.request(headers, body)
        if status == 200 and b'"RequestItems"' in body:
            # Asked after the write: who gives it up later makes the next one after it.
            self.note(worker, json.loads(body)["RequestItems"], is_given_up(), began)
        return status, reply_headers, reply

    def note(self, worker, batch, given_up, began):
        """A delete is a state as well: None, whichever record it is by."""
        for table, requests in batch.items():
            for request in requests:
                put = request.get("PutRequest", {}).get("Item")
                item = put or request["DeleteRequest"]["Key"]
                write = Unguarded(worker, put and put.get("n"), given_up, began, time.monotonic())
                with self.lock:
                    self.unguarded[table, item["id"]["S"]].append(write)

    def explains(self, table, id, state, last):
        """Whether an item may have a state that is not its last, which was written before that was over: its sender had given it up, or
        another worker was further then."""
        writes = self.unguarded[table, id]
        last_began = max((write.began for write in writes if write.state == last), default=None)
        if last_began is None:
            return False
        is_later = lambda one, other: None in (one.state, other.state) or int(one.state["N"]) > int(other.state["N"])
        overtakes = lambda one: any(
            other.worker != one.worker and other.began < one.ended and is_later(other, one) for other in writes
        )
        came_late = [one for one in writes if one.state == state and one.ended > last_began]
        return any(one.given_up or overtakes(one) for one in came_late)

    def request(self, headers, body):
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            connection.request("POST", "/", body, headers)
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()

    def later(self, wait, worker, headers, body):
        def send():
            time.sleep(wait)
            self.forward(worker, headers, body, lambda: True)

        thread = threading.Thread(target=send, daemon=True)
        with self.lock:
            self.pending.append(thread)
        thread.start()

    def settle(self):
        """Until nothing is on its way that its sender has given up."""
        with self.lock:
            pending = list(self.pending)
        for thread in pending:
            thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        operation = self.headers["x-amz-target"].rsplit(".")[-1]
        worker = self.path.strip("/")
        # Of an item: what says that it was refused has its key too.
        is_item = operation != "TransactWriteItems" or b'"Update"' in body
        is_mended = self.server.mended or self.server.counts_mended and operation == "TransactWriteItems"
        if is_item and POISON.encode() in body and not is_mended:
            with self.server.lock:
                self.server.counts[INVALID] += 1
            return self.refuse("ValidationException", "One or more parameter values were invalid")
        fault, wait = self.server.fault(operation)
        if operation == "TransactWriteItems" and fault in ("hot", "throttled"):
            return self.cancel("ThrottlingError" if fault == "hot" else "TransactionConflict", json.loads(body))
        if fault == "throttled":
            return self.refuse("ThrottlingException", "too fast")
        if fault == "hot":
            reasons = [{"reason": "TableWriteKeyRangeThroughputExceeded", "resource": "arn:aws:dynamodb:x:0:table/t"}]
            return self.refuse("ProvisionedThroughputExceededException", "too fast", ThrottlingReasons=reasons)
        if fault == "failed":
            return self.answer(500, {}, json.dumps({"__type": "x#InternalServerError", "message": "no"}).encode())
        if fault == "late":
            self.server.later(wait, worker, headers, body)
        if fault == "slow":
            time.sleep(wait / 8)
        if fault in ("cut", "late"):
            return self.cut()
        send = self.take_some if operation == "BatchWriteItem" else self.server.forward
        answer = send(worker, headers, body, self.is_given_up)
        if fault == "lost":
            return self.cut()
        self.answer(*answer)

    def is_given_up(self):
        """Whether who sends has closed the connection: a worker that lost the shard's lease, or is dead."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def take_some(self, worker, headers, body, is_given_up):
        batch = json.loads(body)
        left = self.server.left_over(batch)
        if not left:
            return self.server.forward(worker, headers, body, is_given_up)
        if not any(batch["RequestItems"].values()):
            return 200, {}, json.dumps({"UnprocessedItems": left}).encode()
        body = json.dumps(batch).encode()
        headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        status, reply_headers, reply = self.server.forward(worker, headers, body, is_given_up)
        if status != 200:
            return status, reply_headers, reply
        return status, {}, json.dumps(json.loads(reply) | {"UnprocessedItems": left}).encode()

    def refuse(self, code, message, **more):
        body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message} | more
        self.answer(400, {}, json.dumps(body).encode())

    def cancel(self, code, request):
        """As of one of the transaction's items, and of the others not."""
        reasons = [{"Code": "None"} for _ in request["TransactItems"]]
        self.server.random.choice(reasons).update(Code=code, Message="not now")
        self.refuse("TransactionCanceledException", "cancelled", CancellationReasons=reasons)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() in ("content-type", "x-amz-crc32", "x-amzn-requestid"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def cut(self):
        self.close_connection = True
        self.connection.close()
