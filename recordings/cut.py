"""How the excerpts here were made: `python recordings/cut.py FROM_SECONDS TO_SECONDS SOURCE.zst TARGET.zst`.

Seconds count from 2024-08-08 23:54:15 UTC by the recorder's clock. Frames are copied as they are. The excerpt starts
with a REST snapshot as the venue would have answered then: the recorded one, with the diffs up to the cut applied.
"""

import json
import sys
from pathlib import Path

import zstandard

START_NS = 1_723_161_255_000_000_000


def cut(source: Path, target: Path, from_ns: int, to_ns: int) -> None:
    snapshot: dict | None = None
    diffs: list[dict] = []  # all before the cut: some reach the recorder before the snapshot that they follow
    kept: list[str] = []
    with zstandard.open(source, "rt") as lines:
        for line in lines:
            stamp, _, body = line.rstrip("\n").partition(" ")
            if int(stamp) >= to_ns:
                break
            if int(stamp) >= from_ns:
                kept.append(f"{stamp} {body}\n")
                continue
            frame = json.loads(body)
            if "lastUpdateId" in frame:
                snapshot = frame
            elif "@depth" in frame["stream"]:
                diffs.append(frame["data"])
    if snapshot is None:
        raise SystemExit(f"cut: {source} has no snapshot before the excerpt; choose a later FROM_SECONDS")
    sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
    for diff in diffs:
        if diff["u"] > snapshot["lastUpdateId"]:
            snapshot |= {"lastUpdateId": diff["u"]} | {name: diff[name] for name in ("E", "T") if name in snapshot}
            for key, side in sides.items():
                side.update(diff[key])
    for name, key, down in (("bids", "b", True), ("asks", "a", False)):
        levels = [(price, size) for price, size in sides[key].items() if float(size)]
        snapshot[name] = [list(level) for level in sorted(levels, key=lambda level: float(level[0]), reverse=down)][:1000]
    packed = zstandard.ZstdCompressor(level=19).compress(
        "".join([f"{from_ns} {json.dumps(snapshot, separators=(',', ':'))}\n", *kept]).encode()
    )
    target.write_bytes(packed)
    print(f"{target}: {len(kept)} frames, {len(packed)} bytes")


if __name__ == "__main__":
    first, last, source, target = sys.argv[1:]
    cut(Path(source), Path(target), START_NS + int(float(first) * 1e9), START_NS + int(float(last) * 1e9))
