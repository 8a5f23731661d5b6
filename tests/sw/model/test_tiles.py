"""Which key tiles a job needs: two groups tell of all."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fusemax.model.tiles import _needed, needs_all_keys
from fusemax.spec import CONFIGS, Config, Descriptor


def group_by_group(config: Config, job: Descriptor) -> bool:
    """The same by looking at every group."""
    number = 0
    for group in range(job.groups):
        end = 0
        for _ in range(job.group_tiles - (group >= job.large_groups)):
            needed = _needed(config, job, number)
            if needed.start > end:
                return False
            end = max(end, needed.stop)
            number += 1
        if end < job.key_tiles:
            return False
    return True


@settings(max_examples=500)
@given(st.data())
def test_two_groups_tell_of_all(data) -> None:
    groups = data.draw(st.integers(1, 5))
    job = Descriptor(
        groups=groups,
        large_groups=(large := data.draw(st.integers(1, groups))),
        group_tiles=data.draw(st.integers(1 + (large < groups), 4)),
        key_tiles=data.draw(st.integers(1, 5)),
        share=data.draw(st.integers(1, 5)),
        tile_span=data.draw(st.integers(0, 9)),
        mask_lo=(lo := data.draw(st.integers(-40, 20))),
        mask_hi=data.draw(st.integers(lo, 40)),
    )
    assert needs_all_keys(CONFIGS["tiny"], job) == group_by_group(CONFIGS["tiny"], job)


def test_a_job_of_very_many_groups_is_judged_at_once() -> None:
    job = Descriptor(groups=1 << 31, large_groups=1, group_tiles=2, key_tiles=1, share=1, mask_lo=-5, mask_hi=1 << 30)
    assert needs_all_keys(CONFIGS["tiny"], job)
    assert not needs_all_keys(CONFIGS["tiny"], replace(job, key_tiles=2))
