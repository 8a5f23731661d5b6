"""Random jobs and the loops that every walker steps through, for the tests of the control blocks."""

from collections.abc import Iterator
from typing import Any

from fusemax.schedule.residency import residency
from fusemax.spec import DESCRIPTOR_MAGIC, Config

__all__ = ["heads_of", "query_tiles_of", "random_job", "tiles_of"]


def random_job(rng: Any, config: Config, e: int, f: int, *, queries: int, keys: int, float32_out: int = 0) -> dict[str, int]:
    """Descriptor fields of a job with up to ``queries`` and ``keys`` and small loops around them."""
    tiles = residency(config, e, f, rng.randint(1, queries), rng.randint(1, keys))
    job = {
        "magic": DESCRIPTOR_MAGIC,
        "float32_out": float32_out,
        "interrupt": rng.getrandbits(1),
        "e": e,
        "f": f,
        "scale": rng.getrandbits(32),
        "heads": rng.randint(1, 3),
        "batch": rng.randint(1, 2),
        "output_slots": config.output_beats // config.beats(f, 4 if float32_out else 2),
        "group_iterations": tiles.group_iterations,
    }
    for name in ("query_slots", "key_tiles", "last_keys", "last_queries", "groups", "large_groups", "group_tiles"):
        job[name] = getattr(tiles, name)
    for tensor in "qkvo":
        job[f"{tensor}_address"] = rng.randrange(1 << config.address_bits) // config.bus_bytes * config.bus_bytes
        for stride in ("row", "head", "batch"):
            job[f"{tensor}_{stride}_stride"] = rng.randrange(1 << 32) // config.bus_bytes * config.bus_bytes
    return job


def heads_of(job: dict[str, int], tensor: str) -> Iterator[int]:
    """Address of every head of every batch entry."""
    for batch in range(job["batch"]):
        for head in range(job["heads"]):
            yield job[f"{tensor}_address"] + batch * job[f"{tensor}_batch_stride"] + head * job[f"{tensor}_head_stride"]


def query_tiles_of(job: dict[str, int]) -> list[list[int]]:
    """Numbers of the query tiles of every group of a head."""
    groups, start = [], 0
    for group in range(job["groups"]):
        count = job["group_tiles"] - (group >= job["large_groups"])
        groups.append(list(range(start, start + count)))
        start += count
    return groups


def tiles_of(config: Config, jobs: list[dict[str, int]]) -> Iterator[dict[str, int]]:
    """Tiles of all jobs, as the array works on them.

    Buffers alternate and the query ring goes on from job to job until a restart.
    """
    buffer = ring = 0
    for job in jobs:
        ring = 0 if job["restart"] else ring
        for _ in range(job["batch"] * job["heads"]):
            groups = query_tiles_of(job)
            for group in groups:
                for key_tile in range(job["key_tiles"]):
                    last_key_tile = key_tile == job["key_tiles"] - 1
                    for number, query_tile in enumerate(group):
                        last_query_tile = query_tile == groups[-1][-1]
                        yield {
                            "buffer": buffer,
                            "query": (ring + number) % job["query_slots"] * config.beats(job["e"]),
                            "reference": number,
                            "state": number * (job["f"] + 1),
                            "keys": job["last_keys"] if last_key_tile else config.rows,
                            "queries": job["last_queries"] if last_query_tile else config.columns,
                            "first": int(key_tile == 0),
                            "last": int(last_key_tile),
                            "new_keys": int(number == 0),
                            "free_keys": int(query_tile == group[-1]),
                            "float32_out": job["float32_out"],
                            "output_slots": job["output_slots"],
                        }
                    buffer ^= 1
                ring = (ring + len(group)) % job["query_slots"]
