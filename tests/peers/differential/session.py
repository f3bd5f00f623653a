"""A script's view of one target: it calls, and every answer is written down, normalised, for the comparison."""

import base64
import dataclasses
import functools
import http.client
import json
import time
import urllib.parse
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, EventStreamError
from botocore.parsers import ResponseParserError

from model import Model, wrong
from normalise import Normaliser
from targets import OURS

READ_SECONDS_MAX = 60
WAIT_SECONDS_MAX = 60
READS_MAX = 60
EVENTS_MAX = 20
CONNECTIONS_MAX = 16
# The account in ARNs that a target makes.
ACCOUNT, ACCOUNTS = "000000000000", {"moto": "123456789012"}
HASH_KEYS = 2**128
# Parsed and not verified by any of the targets; kinesis-local wants the credential's scope.
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=test/20260301/us-east-1/kinesis/aws4_request, "
    "SignedHeaders=host;x-amz-date;x-amz-target, Signature=" + "0" * 64
)


@functools.cache
def client(url):
    config = Config(
        connect_timeout=5,
        read_timeout=READ_SECONDS_MAX,
        parameter_validation=False,
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS_MAX,
    )
    return boto3.client(
        "kinesis",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="testtest",
        config=config,
    )


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back: an error's type and status, or a body."""

    error: str | None
    body: dict

    @property
    def ok(self):
        return self.error is None


@dataclasses.dataclass
class Call:
    """A line of the transcript. `stream` is what it may have changed; `body` is normalised."""

    operation: str
    case: str
    stream: str | None
    error: str | None
    body: object
    calls: int = 1
    # What the model knows of the answer, of calls of ours.
    expected: dict = dataclasses.field(default_factory=dict)
    # The script's step and the call's number in it, so that the same calls of two targets find each other.
    place: tuple = ()


class Session:
    """One script on one target. Streams' names begin with the script's, so scripts do not see each other."""

    def __init__(self, target, script, shares_target=False):
        self.shares_target = shares_target
        self.target = target
        self.script = script
        self.transcript = []
        self.step_number = 0
        self.calls_of_step = 0
        self.last_was_ok = True
        self.normaliser = Normaliser(script)
        self.client = client(target.url)
        # Only of ours it is known what it has to answer.
        self.model = Model(self.arn) if target.name == OURS else None
        self.expected, self.mistakes = {}, []

    def name(self, short):
        return f"{self.script}-{short}"

    def step(self):
        """What follows lines up again, even if a target has made more calls, or fewer, until here."""
        self.step_number += 1
        self.calls_of_step = 0

    # -- calls that are compared

    def call(self, operation, case="valid", stream=None, **request):
        """Calls by boto3 and writes the answer down."""
        answer = self.ask(operation, request)
        self.note(operation, case, stream or request.get("StreamName"), answer)
        self.last_was_ok = answer.ok
        return answer.body

    def raw(self, operation, case, body, stream=None, headers=None):
        """Sends what boto3 would not: `body` is bytes, or a value to be made JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.send(operation, data, headers or {})
        if answer.ok and isinstance(body, dict):
            data = {"Data": base64.b64decode(body["Data"])} if "Data" in body else {}
            self.follow(operation, body | data, answer.body)
        self.note(operation, case, stream, answer)
        return answer.body

    def read(self, stream, shard, case="valid", **start):
        """Reads from an iterator to the tip, or to the end of the shard. One line for all pages: how many there are is
        nobody's promise."""
        request = {"StreamName": stream, "ShardId": shard} | (start or {"ShardIteratorType": "TRIM_HORIZON"})
        iterator = self.call("GetShardIterator", case, **request).get("ShardIterator")
        records, answer, reads, expected = [], Answer("no iterator", {}), 0, []
        while iterator and reads < READS_MAX:
            answer = self.ask("GetRecords", {"ShardIterator": iterator, "Limit": 10000})
            reads += 1
            expected += self.expected.get("Records", [])
            records += answer.body.get("Records", [])
            iterator = answer.body.get("NextShardIterator")
            if not answer.ok or (not answer.body["Records"] and answer.body.get("MillisBehindLatest", 0) == 0):
                break
        body = dict(answer.body, Records=records)
        ended = answer.ok and iterator is None
        body["NextShardIterator"] = None if ended else "<iterator>"
        if "Records" in self.expected:
            self.expected = self.expected | {"Records": expected}
        self.note("GetRecords", case, stream, Answer(answer.error, body), reads, shard)
        return records

    def subscribe(self, case, stream, consumer, shard, **start):
        """Notes the events up to the first one with records."""
        request = {"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": start}
        answer = self.ask("SubscribeToShard", request)
        if answer.ok:
            events = answer.body["EventStream"]
            answer = Answer(None, {})
            try:
                for event, _ in zip(events, range(EVENTS_MAX)):
                    body = event.get("SubscribeToShardEvent", {})
                    if body.get("Records"):
                        answer = Answer(None, body)
                        break
            except EventStreamError as error:
                answer = Answer(f"{error.response['Error']['Code']} in the stream", {})
            finally:
                events.close()
        self.note("SubscribeToShard", case, stream, answer, 1, shard)

    def note(self, operation, case, stream, answer, calls=1, shard=None):
        body = self.normaliser.body(answer.body, stream, shard) if answer.ok else None
        place = (self.step_number, self.calls_of_step)
        self.calls_of_step += 1
        expected = self.expected if answer.ok else {}
        self.transcript.append(Call(operation, case, stream, answer.error, body, calls, expected, place))

    # -- calls that serve the script

    def ask(self, operation, request):
        try:
            body = self.make_call(operation, request)
        except ClientError as error:
            return Answer(described(error.response), {})
        except (BotoCoreError, ResponseParserError, KeyError, TypeError, ValueError) as error:
            return Answer(f"no answer: {type(error).__name__}", {})
        body.pop("ResponseMetadata", None)
        self.follow(operation, request, body)
        return Answer(None, body)

    def follow(self, operation, request, body):
        """Compares an answer of ours with what the model makes of the call."""
        self.expected = {}
        if self.model:
            self.expected = self.model.answered(operation, request, body)
            self.mistakes += (f"{operation} {text}" for text in wrong(self.expected, body))

    def make_call(self, operation, request):
        try:
            return self.client._make_api_call(operation, request)
        except ConnectionClosedError:
            # A peer may close the connection after a refusal, and the client finds out at its next call.
            if self.target.name == "kinesink":
                raise
            return self.client._make_api_call(operation, request)

    def send(self, operation, data, headers):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.target.url).netloc, timeout=READ_SECONDS_MAX)
        wanted = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"Kinesis_20131202.{operation}",
            "X-Amz-Date": "20260301T120000Z",
            "Authorization": AUTHORIZATION,
        } | headers
        try:
            connection.request("POST", "/", data, {name: text for name, text in wanted.items() if text is not None})
            reply = connection.getresponse()
            text = reply.read()
        except (OSError, http.client.HTTPException) as error:
            return Answer(f"no answer: {type(error).__name__}", {})
        finally:
            connection.close()
        try:
            body = json.loads(text) if text else {}
        except ValueError:
            body = {}
        if reply.status == 200:
            return Answer(None, body)
        kind = body.get("__type") or reply.headers.get("x-amzn-errortype") or "no type"
        return Answer(f"{kind.rsplit('#')[-1].split(':')[0]} {reply.status}", {})

    def wait(self, stream):
        """Until the stream is active, or not there."""
        self.poll("DescribeStreamSummary", {"StreamName": stream}, ("StreamDescriptionSummary", "StreamStatus"))
        self.settle(stream)

    def wait_until_gone(self, stream):
        self.poll("DescribeStreamSummary", {"StreamName": stream}, ())
        self.settle(stream)

    def settle(self, stream, consumer=None):
        if self.model and consumer:
            self.model.settle_consumer(stream, consumer)
        elif self.model:
            self.model.settle(stream)

    def wait_for_consumer(self, stream, name):
        request = {"StreamARN": self.arn(stream), "ConsumerName": name}
        self.poll("DescribeStreamConsumer", request, ("ConsumerDescription", "ConsumerStatus"))
        self.settle(stream, name)

    def wait_until_consumer_is_gone(self, stream, name):
        self.poll("DescribeStreamConsumer", {"StreamARN": self.arn(stream), "ConsumerName": name}, ())
        self.settle(stream, name)

    def remove_streams(self):
        """What is left, also of what should never have been made: the next script starts with nothing."""
        if self.shares_target:
            return
        names = self.ask("ListStreams", {}).body.get("StreamNames", [])
        for name in names:
            self.wait(name)
            self.ask("DeleteStream", {"StreamName": name, "EnforceConsumerDeletion": True})
        for name in names:
            self.wait_until_gone(name)

    def consumer_arn(self, stream, name):
        body = self.ask("DescribeStreamConsumer", {"StreamARN": self.arn(stream), "ConsumerName": name}).body
        return body.get("ConsumerDescription", {}).get("ConsumerARN", "no ARN")

    def let_minutes_pass(self):
        """Until an iterator from before has expired."""
        if self.target.name == "kinesink":
            body = json.dumps({"jump_ms": 301_000}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{self.target.url}/_kinesink/clock", body, headers)
            urllib.request.urlopen(request, timeout=READ_SECONDS_MAX).close()
        else:
            # ferrokinesis was started with iterators that live for a second.
            time.sleep(2)

    def poll(self, operation, request, status):
        ends = time.monotonic() + WAIT_SECONDS_MAX
        pause = 0.005
        while time.monotonic() < ends:
            answer = self.ask(operation, request)
            if not answer.ok or (status and answer.body[status[0]][status[1]] == "ACTIVE"):
                return
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        raise TimeoutError(f"{operation} {request} on {self.target.name} after {WAIT_SECONDS_MAX} s")

    def shards(self, stream, **request):
        return self.ask("ListShards", {"StreamName": stream} | request).body.get("Shards", [])

    def open(self, stream):
        """Open shards in the order of their hash keys."""
        shards = [shard for shard in self.shards(stream) if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        return sorted(shards, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def shard_of(self, stream, hash_key):
        """The id of the open shard that ends with the hash key."""
        ids = [shard["ShardId"] for shard in self.open(stream) if shard["HashKeyRange"]["EndingHashKey"] == hash_key]
        return ids[0] if ids else "none"

    def closed(self, stream):
        return [shard for shard in self.shards(stream) if "EndingSequenceNumber" in shard["SequenceNumberRange"]]

    def arn(self, stream):
        account = ACCOUNTS.get(self.target.name, ACCOUNT)
        return f"arn:aws:kinesis:us-east-1:{account}:stream/{stream}"

    def iterator(self, stream, shard, kind="TRIM_HORIZON", **more):
        request = {"StreamName": stream, "ShardId": shard, "ShardIteratorType": kind} | more
        return self.ask("GetShardIterator", request).body.get("ShardIterator", "no iterator")


def described(response):
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    code = response.get("Error", {}).get("Code", "no type").rsplit("#")[-1]
    return f"{code} {status}" if code != str(status) else f"no type {status}"


def middle(shard):
    """The hash key that halves the shard."""
    keys = shard["HashKeyRange"]
    return str((int(keys["StartingHashKey"]) + int(keys["EndingHashKey"]) + 1) // 2)
