"""Random jobs and the loops that every walker steps through, for the tests of the control blocks."""

from collections.abc import Iterator
from typing import Any

from fusemax.planning.residency import residency
from fusemax.spec import DESCRIPTOR_MAGIC, Config, ceil_div

__all__ = ["UNBOUNDED", "heads_of", "query_tiles_of", "random_job", "random_mask", "row_offset", "share_fields", "tiles_of"]

UNBOUNDED = {"mask_lo": -(1 << 30), "mask_hi": 1 << 30}


def share_fields(config: Config, share: int) -> dict[str, int]:
    """Fields of a job in which so many query heads share a key head."""
    return {
        "share": share,
        "tile_positions": config.columns // share,
        "tile_phase": config.columns % share,
        "tile_span": (config.columns + share - 2) // share,
    }


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
        **dict.fromkeys(("state_out", "raw_out", "row_scale", "continues", "continued", "values_in_keys"), 0),
        **UNBOUNDED,
        **share_fields(config, rng.choice((1, 1, 2, 3, config.columns, config.columns + 2))),
    }
    for name in ("query_slots", "key_tiles", "last_keys", "last_queries", "groups", "large_groups", "group_tiles"):
        job[name] = getattr(tiles, name)
    job |= {"bit_mask": rng.getrandbits(1), "bias": rng.getrandbits(1), "bias_wide": rng.getrandbits(1)}
    job |= {"mask_phase": rng.randrange(config.mask_block_tiles), "bias_scale": rng.getrandbits(32)}
    job["mask_blocks"] = ceil_div(job["mask_phase"] + job["key_tiles"], config.mask_block_tiles)
    for tensor in "qkvmbo":
        job[f"{tensor}_address"] = rng.randrange(1 << config.address_bits) // config.bus_bytes * config.bus_bytes
        for stride in ("row", "head", "batch"):
            job[f"{tensor}_{stride}_stride"] = rng.randrange(1 << 32) // config.bus_bytes * config.bus_bytes
        job[f"{tensor}_share_stride"] = rng.randrange(1 << 32) // config.bus_bytes * config.bus_bytes
    return job


def random_mask(rng: Any, config: Config, job: dict[str, int]) -> dict[str, int]:
    """Bounds of the keys that position 0 sees, such that some query of every group sees a key of every key tile.

    With tiles that can be left out, if that is found easily.
    """
    keys = job["key_tiles"] * config.rows
    mask = dict(UNBOUNDED)
    for _ in range(60):
        lo = rng.choice((-(1 << 30), rng.randint(-keys, keys)))
        hi = rng.choice((1 << 30, max(lo, -keys) + rng.randint(1, 2 * keys)))
        tried = job | {"mask_lo": lo, "mask_hi": hi}
        needed = [
            [needs_tile(config, tried, query_tile, key_tile) for query_tile in group]
            for group in query_tiles_of(job)
            for key_tile in range(job["key_tiles"])
        ]
        if all(map(any, needed)):
            mask = {"mask_lo": lo, "mask_hi": hi}
            if not all(map(all, needed)):
                break
    return mask


def bounds(config: Config, job: dict[str, int], query_tile: int, key_tile: int) -> tuple[int, int]:
    """First key that the query tile's first query sees and the one behind its last query's last, relative to the key tile."""
    position = query_tile * config.columns // job["share"] - key_tile * config.rows
    return job["mask_lo"] + position, job["mask_hi"] + position + job["tile_span"]


def sees(config: Config, job: dict[str, int], query_tile: int, key_tile: int) -> bool:
    lo, hi = bounds(config, job, query_tile, key_tile)
    return lo < config.rows and hi > 0


def needs_tile(config: Config, job: dict[str, int], query_tile: int, key_tile: int) -> bool:
    """Whether a tile is issued: it is not masked, or it stands for a query tile that sees nothing."""
    if job["continues"] or job["continued"] or sees(config, job, query_tile, key_tile):
        return True
    lo, hi = bounds(config, job, query_tile, key_tile)
    last = job["key_tiles"] - 1
    return (key_tile == 0 and hi <= 0) or (key_tile == last and lo >= config.rows)


def row_offset(job: dict[str, int], tensor: str, row: int) -> int:
    """Bytes from a head's first row of Q, of mask bits, of biases or of the output to another one."""
    position, head = divmod(row, job["share"])
    return position * job[f"{tensor}_row_stride"] + head * job[f"{tensor}_share_stride"]


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
    buffer = ring = block = bias_buffer = 0
    for job in jobs:
        ring, buffer = (0, 0) if job["restart"] else (ring, buffer)
        for _ in range(job["batch"] * job["heads"]):
            groups = query_tiles_of(job)
            for group in groups:
                tiles = range(job["key_tiles"])
                needed = {query: [key for key in tiles if needs_tile(config, job, query, key)] for query in group}
                for key_tile in tiles:
                    last_key_tile = key_tile == job["key_tiles"] - 1
                    element = (job["mask_phase"] + key_tile) % config.mask_block_tiles
                    block_begins = job["bit_mask"] and (key_tile == 0 or element == 0)
                    block_ends = job["bit_mask"] and (last_key_tile or element == config.mask_block_tiles - 1)
                    users = [query for query in group if key_tile in needed[query]]
                    for number, query_tile in enumerate(group):
                        if query_tile not in users:
                            continue
                        last_query_tile = query_tile == groups[-1][-1]
                        position, phase = divmod(query_tile * config.columns, job["share"])
                        start = position - key_tile * config.rows
                        yield {
                            "buffer": buffer,
                            "bias_buffer": bias_buffer,
                            "query": (ring + number) % job["query_slots"] * config.beats(job["e"]),
                            "reference": number,
                            "state": number * (job["f"] + 1),
                            "keys": job["last_keys"] if last_key_tile else config.rows,
                            "queries": job["last_queries"] if last_query_tile else config.columns,
                            "lo": max(-512, min(511, job["mask_lo"] + start)),
                            "hi": max(-512, min(511, job["mask_hi"] + start)),
                            "phase": phase,
                            "share": job["share"] - 1,
                            "first": int(key_tile == needed[query_tile][0] and not job["continued"]),
                            "last": int(key_tile == needed[query_tile][-1] and not job["continues"]),
                            "new_keys": int(query_tile == users[0]),
                            "free_keys": int(query_tile == users[-1]),
                            "bits": job["bit_mask"],
                            "block": block,
                            "element": element if job["bit_mask"] else job["mask_phase"],
                            "new_bits": int(query_tile == users[0] and block_begins),
                            "free_bits": int(query_tile == users[-1] and block_ends),
                            **{name: job[name] for name in ("float32_out", "state_out", "raw_out", "bias_wide")},
                            "output_slots": job["output_slots"],
                        }
                    buffer = (buffer + 1) % (3 if job["values_in_keys"] else 2)
                    bias_buffer ^= job["bias"]
                    block ^= int(block_ends)
                if not job["continues"]:
                    ring = (ring + len(group)) % job["query_slots"]
