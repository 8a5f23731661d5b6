"""Which tiles of a job the machine works on, and how many rows it reads and writes."""

from __future__ import annotations

from ..planning.masks import UNBOUNDED
from ..planning.pair_rows import bias_beats
from ..spec import Config, Descriptor, ceil_div

__all__ = ["is_masked", "issued_tiles", "job_rows", "needs_all_keys", "query_tiles", "read_beats", "written_bytes"]


def query_tiles(job: Descriptor) -> int:
    """Query tiles of a key head."""
    return job.groups * (job.group_tiles - 1) + job.large_groups


def job_rows(config: Config, job: Descriptor) -> tuple[int, int]:
    """Query rows and keys of a key head."""
    rows = (query_tiles(job) - 1) * config.columns + job.last_queries
    return rows, (job.key_tiles - 1) * config.rows + job.last_keys


def is_masked(job: Descriptor) -> bool:
    """The job's mask has a bound."""
    return job.mask_lo > -UNBOUNDED or job.mask_hi < UNBOUNDED


def _needed(config: Config, job: Descriptor, number: int) -> range:
    """Key tiles that are worked on with a query tile of a job without a chain: those of which a query may see a key.

    The machine counts positions of a query tile from its first row up to the most that ``columns`` rows can span. A query
    tile that sees no key is issued once.
    """
    first = number * config.columns // job.share
    lo, hi = job.mask_lo + first, job.mask_hi + first + job.tile_span
    if hi <= 0:
        return range(1)
    start = min(max(0, lo // config.rows), job.key_tiles - 1)
    return range(start, max(start + 1, min(job.key_tiles, ceil_div(hi, config.rows))))


def issued_tiles(config: Config, job: Descriptor) -> int:
    """Tiles of a key head that are worked on: all, but without a chain only those of which a query may see a key."""
    if job.continues or job.continued or not is_masked(job):
        return query_tiles(job) * job.key_tiles
    return sum(len(_needed(config, job, number)) for number in range(query_tiles(job)))


def needs_all_keys(config: Config, job: Descriptor) -> bool:
    """Whether every key tile is needed in every group; the machine would wait for ever for a buffer with one that is not."""
    if job.continues or job.continued or not is_masked(job):
        return True
    # Later query tiles begin and end no earlier. So if the first group needs the last key tile, all do; and if the last one
    # needs the first key tile, those before it begin with it in all their query tiles.
    last = query_tiles(job) - (job.group_tiles - (job.groups > job.large_groups))
    for first, tiles in ((0, job.group_tiles), (last, query_tiles(job) - last)):
        end = 0
        for number in range(first, first + tiles):
            needed = _needed(config, job, number)
            if needed.start > end:
                return False
            end = max(end, needed.stop)
        if end < job.key_tiles:
            return False
    return True


def read_beats(config: Config, job: Descriptor) -> int:
    """Bus words of queries, keys, values, mask bits and biases that a job reads."""
    rows, keys = job_rows(config, job)
    query_beats = 0 if job.continued else rows * (job.row_scale + config.beats(job.e))
    value_beats = 0 if job.values_in_keys else config.beats(job.f)
    key_beats = job.groups * keys * (config.beats(job.e) + value_beats)
    mask_beats = job.bit_mask * job.mask_blocks * rows
    bias_words = job.bias * job.key_tiles * rows * bias_beats(config, wide=bool(job.bias_wide))
    return job.heads * job.batch * (query_beats + key_beats + mask_beats + bias_words)


def written_bytes(config: Config, job: Descriptor) -> int:
    """Bytes of the output rows of a job, as strobed."""
    if job.continues:
        return 0
    rows, _ = job_rows(config, job)
    row_bytes = job.state_out * config.bus_bytes + job.f * (4 if job.float32_out else 2)
    return job.heads * job.batch * rows * row_bytes
