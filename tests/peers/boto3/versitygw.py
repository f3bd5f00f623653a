"""The race, and objects of `kinesink run`, on the Versity S3 Gateway, a real server over a directory (Apache-2.0).

    KINESINK=kinesink kinesink local -- python tests/peers/boto3/versitygw.py FOLDER

FOLDER keeps the server, which Go builds from its module.

It keeps metadata in extended attributes (`user.*`), so the temporary directory has to be on a file system that has them.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

from run import run

VERSION = "v1.8.0"
KEY, SECRET = "test", "testtest"
START_SECONDS_MAX = 30


def main(folder):
    program = folder / VERSION / "versitygw"
    if not program.exists():
        module = f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"
        environment = os.environ | {"GOBIN": str(program.parent), "CGO_ENABLED": "0"}
        # Without symbols it is linked in half the time.
        subprocess.run(["go", "install", "-ldflags=-s -w", module], check=True, env=environment)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as objects:
        command = [program, "--port", f"127.0.0.1:{port}", "--access", KEY, "--secret", SECRET]
        command += ["--region", "us-east-1", "--quiet", "posix", objects]
        server = subprocess.Popen(command, stdout=sys.stderr)
        try:
            wait_until_it_answers(port, server)
            os.environ |= {
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            return run("s3_race", "s3_sink", "s3_cuts", "s3_places")
        finally:
            server.terminate()
            server.wait(timeout=20)


def wait_until_it_answers(port, server):
    for _ in range(START_SECONDS_MAX * 10):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    sys.exit(f"versitygw does not answer; it ended with {server.poll()}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
