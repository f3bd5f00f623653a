"""Objects of more than 64 MiB that `kinesink run` writes in parts, killed in the midst of them.

Run on the local S3, and on a server that no one here wrote. The records are read back as the object's bytes, and what is
not theirs fails; no upload of a killed writer is left once its object is there.
"""

import random
import signal

from pipelines import Pipeline

SEED = 64
RECORD_BYTES, RECORDS = 900_000, 76
OBJECT_BYTES = RECORD_BYTES * RECORDS


class LargeObjects(Pipeline):
    name = "large"
    pause_s = 0.005

    def run_until(self, done, end):
        sink = f"""
[[sink]]
type = "s3"
url = "s3://{self.name}/large"
format = "raw"
compression = "none"
path_style = true
"""
        super().run_until(RECORDS, sink, done, end=end)

    def uploads(self):
        return self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])

    def test_one_that_is_killed_amid_its_parts_is_there_once_and_leaves_no_upload(self):
        chance = random.Random(SEED)
        records = [chance.randbytes(RECORD_BYTES) for _ in range(RECORDS)]
        for start in range(0, RECORDS, 4):
            self.put(records[start : start + 4])
        hit = 0
        for _ in range(4):
            self.run_until(lambda: self.uploads() or self.listed(), signal.SIGKILL)
            hit += bool(self.uploads()) and not self.listed()
        self.assertGreater(hit, 0, "no kill came amid an upload")
        self.run_until(self.listed, signal.SIGTERM)

        [found] = self.listed()
        self.assertEqual(found["Size"], OBJECT_BYTES)
        self.assertRegex(found["ETag"], r'^"[0-9a-f]{32}-[0-9]+"$', "it was not sent in parts")
        [(_, count, body)] = self.objects()
        self.assertEqual(count, RECORDS)
        # A raw object is the records' bytes, one after the other, in stream order.
        self.assertTrue(body == b"".join(records), "the object is not its records")
        self.assertEqual(self.uploads(), [])
