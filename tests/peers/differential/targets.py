"""Starts what is compared: ours and the peers, each a process of its own on a free loopback port."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
# Everything that is downloaded or built for this suite is below cargo's target folder.
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
CACHE = TARGET / "peers"
KINESIS_LOCAL = "kinesis-local@0.6.2"
SHARDS_MAX = 1000
START_SECONDS_MAX = 60
# The peers count what there is, and do not measure how fast it comes.
RATES = ["get-records-calls", "read-bytes", "read-pause", "get-shard-iterator-calls", "write-bytes", "write-records"]
RATES += ["control-plane-calls", "subscribe-calls", "subscription-bytes", "dry-run-calls"]
OURS, PEERS = "kinesink", ("kinesis-local", "moto", "ferrokinesis")


@dataclasses.dataclass(frozen=True)
class Target:
    name: str
    url: str
    pid: int


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kinesink(port, state_ms):
    binary = os.environ.get("KINESINK") or TARGET / "debug" / "kinesink"
    off = [word for limit in RATES for word in ("--no-limit", limit)]
    return [binary, "local", "--kinesis-port", port, "--transitions", f"{state_ms}ms", *off], {}, None


def moto(port, _state_ms):
    return [pathlib.Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", port], {}, None


def kinesis_local(port, state_ms):
    package = CACHE / "kinesis-local"
    main = package / "node_modules" / "kinesis-local" / "main.js"
    if not main.exists():
        package.mkdir(parents=True, exist_ok=True)
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", package, KINESIS_LOCAL])
    states = ["CREATE_STREAM", "DELETE_STREAM", "REGISTER_STREAM_CONSUMER", "DEREGISTER_STREAM_CONSUMER"]
    states += ["START_STREAM_ENCRYPTION", "STOP_STREAM_ENCRYPTION", "MERGE_SHARDS", "SPLIT_SHARD"]
    states += ["UPDATE_SHARD_COUNT", "UPDATE_STREAM_MODE"]
    settings = {f"{state}_DURATION": f"{state_ms}ms" for state in states}
    settings |= {"KINESIS_MOCK_PLAIN_PORT": str(port), "KINESIS_MOCK_TLS_PORT": str(free_port())}
    settings |= {"SHARD_LIMIT": str(SHARDS_MAX), "LOG_LEVEL": "ERROR"}
    # It reads its certificate from the working directory.
    return ["node", main], settings, main.parent


def ferrokinesis(port, state_ms):
    # Slow changes, so that something can be asked meanwhile, go with iterators that soon expire.
    iterator_s = 1 if state_ms >= 1000 else 300
    return [ferrokinesis_binary("debug"), port, state_ms, SHARDS_MAX, iterator_s], {}, None


def ferrokinesis_binary(profile):
    folder = CACHE / "ferrokinesis"
    flags = ["--release"] if profile == "release" else []
    manifest = HERE / "ferrokinesis" / "Cargo.toml"
    run(["cargo", "build", "--quiet", "--locked", *flags, "--manifest-path", manifest, "--target-dir", folder])
    return folder / profile / "ferrokinesis-peer"


COMMANDS = {OURS: kinesink, "moto": moto, "kinesis-local": kinesis_local, "ferrokinesis": ferrokinesis}


def run(command):
    # Standard output is for results, which somebody counts.
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def prepare():
    """Downloads and builds what is not there. The two take turns with each other's waits."""
    for program in ("npm", "node", "cargo"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing")
    for name in PEERS:
        COMMANDS[name](0, 0)


@contextlib.contextmanager
def started(name, state_ms):
    """The target, answering; gone when this is left."""
    port = free_port()
    command, settings, folder = COMMANDS[name](port, state_ms)
    process = subprocess.Popen(
        [str(word) for word in command],
        env=os.environ | settings,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_it_answers(name, url, process)
        yield Target(name, url, process.pid)
    finally:
        process.kill()
        process.wait()


def wait_until_it_answers(name, url, process):
    ends = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with {process.returncode} instead of serving")
        with contextlib.suppress(urllib.error.HTTPError, OSError):
            # Whatever it answers, it answers.
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError:
                pass
            return
        time.sleep(0.02)
    raise SystemExit(f"{name} did not answer within {START_SECONDS_MAX} s")
