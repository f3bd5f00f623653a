"""Runs what docs/local.md shows, and compares what it lists with what `kinesink local` does.

    kinesink local -- python tests/peers/snippets/run.py KINESINK FOLDER

KINESINK is the program, FOLDER keeps what the languages' own package managers bring. A block of the page that
`<!-- run -->` stands before is run as it is, and has to print the record that it put; one that `<!-- from FILE -->`
stands before has to be in that file. Ends with `N passed, N failed`.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

import boto3
import botocore.config
import botocore.exceptions
import botocore.session

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
PAGE = (REPOSITORY / "docs" / "local.md").read_text()
KINESINK, FOLDER = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
SECONDS_MAX = 240
BLOCK = re.compile(r"<!-- (run|from (?P<file>\S+)) -->\n```(?P<language>\w+)\n(?P<text>.*?)\n```\n", re.S)
BLOCKS = [(match["file"], match["language"], match["text"]) for match in BLOCK.finditer(PAGE)]


def to_run(language, word):
    [text] = [text for file, name, text in BLOCKS if file is None and name == language and word in text]
    return text


def after(marker):
    """The paragraph or table that the marker stands before."""
    return PAGE.split(f"<!-- {marker} -->\n", 1)[1].split("\n\n", 1)[0]


def run(*command, folder=None):
    command = [str(word) for word in command]
    bin_folder = pathlib.Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS_MAX, cwd=folder, env=environment, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)[:200]}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Snippets(unittest.TestCase):
    def test_aws_cli(self):
        # The command of the package index is version 1, which knows no such option, as the page says.
        text = to_run("bash", "create-stream").replace(" --cli-binary-format raw-in-base64-out", "")
        self.assertIn("hello", run("bash", "-euc", text))

    def test_s3_in_the_shell(self):
        done = run("bash", "-euc", to_run("bash", "aws s3 mb"))
        self.assertIn("PreconditionFailed\nhello\n", done)

    def test_python(self):
        self.assertEqual(run(sys.executable, "-c", to_run("python", "boto3")), "hello\n")

    def test_javascript(self):
        self.assertEqual(run("node", "snippet.mjs", folder=javascript_folder()), "hello\n")

    def test_go(self):
        self.assertEqual(run("go", "run", ".", folder=go_folder()), "hello\n")

    def test_the_same_over_tls(self):
        self.assertEqual(over_tls(sys.executable, "-c", to_run("python", "boto3")), "hello\n")
        trusting = "NODE_EXTRA_CA_CERTS=$AWS_CA_BUNDLE exec node snippet.mjs"
        self.assertEqual(over_tls("sh", "-c", trusting, folder=javascript_folder()), "hello\n")
        self.assertEqual(over_tls("go", "run", ".", folder=go_folder()), "hello\n")

    def test_faults(self):
        done = run("bash", "-euc", to_run("bash", "_kinesink"))
        # Three waited, twice; then none did.
        self.assertEqual(done.count('"ProvisionedThroughputExceededException"'), 2, done)
        self.assertEqual(done.count('"stale_shards_ms"'), 2, done)
        self.assertIn("[]", done)

    def test_blocks_of_files_are_in_them(self):
        found = [(file, text) for file, _, text in BLOCKS if file]
        self.assertGreater(len(found), 0)
        for file, text in found:
            self.assertIn(words(text), words((REPOSITORY / file).read_text()), file)


class Lists(unittest.TestCase):
    def test_operations_are_those_that_are_emulated(self):
        for service, marker in [("kinesis", "emulated"), ("s3", "emulated by s3")]:
            listed = set(re.findall(r"\b[A-Z][A-Za-z]+[0-9]?\b", after(marker)))
            model = botocore.session.get_session().get_service_model(service)
            self.assertLessEqual(listed, set(model.operation_names))
            client = boto3.client(service, config=botocore.config.Config(parameter_validation=False))
            # That of directory buckets is ListBuckets at another address.
            for operation in set(model.operation_names) - {"ListDirectoryBuckets"}:
                with self.subTest(operation):
                    self.assertEqual(is_emulated(client, model, operation), operation in listed)

    def test_limits_are_those_of_the_program(self):
        listed = re.findall(r"^\| `([a-z-]+)` \|", after("limits"), re.M)
        done = subprocess.run(
            [KINESINK, "local", "--no-limit", "nothing"], capture_output=True, text=True, timeout=20, check=False
        )
        for name in listed:
            self.assertIn(name, done.stderr)
        known = re.search(r"limits are ([a-z, -]+)", done.stderr.replace("\n", " "))
        self.assertEqual(listed, known[1].strip().split(", "))


def is_emulated(client, model, operation):
    # What names no bucket asks for no operation of one.
    shape = model.operation_model(operation).input_shape
    needed = {member: "none-such" for member in ("Bucket", "Key") if shape and member in shape.members}
    try:
        client._make_api_call(operation, needed)
    except botocore.exceptions.ClientError as error:
        return "does not emulate" not in error.response["Error"].get("Message", "")
    except (botocore.exceptions.BotoCoreError, ValueError, KeyError):
        # It is not sent: directory buckets and the like, which have addresses of their own.
        return False
    return True


def over_tls(*command, folder=None):
    local = [KINESINK, "local", "--tls", "--transitions", "50ms", "--log-level", "warn", "--"]
    return run(*local, *command, folder=folder)


def javascript_folder():
    folder = copied("node")
    if not (folder / "node_modules" / "@aws-sdk" / "client-kinesis" / "package.json").exists():
        run("npm", "install", "--silent", "--no-audit", "--no-fund", folder=folder)
    (folder / "snippet.mjs").write_text(to_run("javascript", "Kinesis"))
    return folder


def go_folder():
    folder = copied("go")
    (folder / "main.go").write_text(to_run("go", "package main"))
    return folder


def copied(name):
    """A folder of that language, with the versions that are pinned here."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in (HERE / name).iterdir():
        shutil.copy(file, folder)
    return folder


def words(text):
    return " ".join(text.split())


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
