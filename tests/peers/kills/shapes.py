"""What the windows of a seed are like: held by memory, spilled to a disk, or spilled and sent in parts."""

import base64
import dataclasses

MIB = 1024 * 1024
# After these steps a worker crashes, after so many passes at most; one window has many objects.
STEPS = {"announced": 6, "put": 100, "delivered": 6, "checkpointing": 6, "checkpointed": 6}
# S3 takes no smaller parts.
PART_BYTES = 5 * MIB


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str
    memory: str
    # Records of a window, at least and at most.
    records: tuple
    age: str
    # How many partitions a stream may be of, and how many shards it begins with.
    parts: tuple
    steps: dict
    shards: tuple = (2, 3)
    is_spilled: bool = False
    # Of the text that makes a record large.
    bulk_bytes: int = 0
    # Put at a time; and after so many in all the producer is slower: a machine that is slow has to get to the end of it.
    put_records_max: int = 40
    fast_records: int = 1_000
    fault_seconds_max: float = 8
    killed_seconds_max: float = 0.7

    def spill(self, directory):
        return f'[spill]\ndir = "{directory}"\nmax = "512MiB"\n' if self.is_spilled else ""

    def arguments(self):
        return [f"--part-bytes={PART_BYTES}"] if "part" in self.steps else []

    def step(self, turn):
        """Each step in turn, over the seeds and the restarts; every second is that of parts, if there are any."""
        steps = list(self.steps)
        if "part" not in steps:
            return steps[turn % len(steps)]
        return "part" if turn % 2 else steps[turn // 2 % len(steps)]

    def bulk(self, chance):
        """Text that no compression makes small."""
        return base64.b64encode(chance.randbytes(self.bulk_bytes * 3 // 4)).decode()


# With more objects than are written side by side, a crash between them leaves some that are not begun.
HELD = Shape("held", memory="64MiB", records=(20, 120), age="150ms", parts=(1, 5, 24), steps=STEPS)
# Two or three open windows are more than memory holds.
SPILLED = dataclasses.replace(HELD, name="spilled", memory="1MiB", age="600ms", is_spilled=True, bulk_bytes=10 * 1024)
# A full window is two parts, and what is spilled of a smaller one is sent as an upload of one.
IN_PARTS = Shape(
    "in parts",
    memory="6MiB",
    records=(90, 110),
    age="2s",
    parts=(1,),
    shards=(2,),
    steps={"announced": 1, "put": 1, "part": 2, "delivered": 1, "checkpointing": 1, "checkpointed": 1},
    is_spilled=True,
    bulk_bytes=80 * 1024,
    put_records_max=12,
    fast_records=400,
    fault_seconds_max=12,
    killed_seconds_max=4,
)


def of_seed(seed):
    """Of five seeds one is spilled, and one sent in parts."""
    return [HELD, SPILLED, HELD, IN_PARTS, HELD][seed % 5]
