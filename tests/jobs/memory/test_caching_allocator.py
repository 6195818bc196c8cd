"""The rules of torch's CUDA allocator, one after the other, on sequences made by hand."""

from __future__ import annotations

import pytest

from jobs.memory.allocator.caching_allocator import CachingAllocator, OutOfMemory
from jobs.units import KiB, MiB


def test_small_tensors_share_segments_of_two_mib() -> None:
    made = CachingAllocator()
    for _ in range(4):
        made.allocate(512 * KiB)
    assert made.reserved == 2 * MiB == made.allocated
    made.allocate(1)
    assert made.reserved == 4 * MiB and made.allocated == 2 * MiB + 512


def test_tensors_up_to_ten_mib_share_segments_of_twenty() -> None:
    made = CachingAllocator()
    made.allocate(9 * MiB)
    made.allocate(9 * MiB)
    assert made.reserved == 20 * MiB
    made.allocate(3 * MiB)
    assert made.reserved == 40 * MiB


def test_larger_ones_have_a_segment_of_their_own_in_whole_pages() -> None:
    made = CachingAllocator()
    made.allocate(10 * MiB)
    assert made.reserved == 10 * MiB
    made.allocate(20 * MiB + 1)
    assert made.reserved == 32 * MiB


def test_what_is_left_is_given_out_whole_up_to_one_mib() -> None:
    made = CachingAllocator()
    block = made.allocate(19 * MiB)
    assert block.size == 20 * MiB, "1 MiB is not more than 1 MiB"
    assert made.allocated == 20 * MiB and made.asked == 19 * MiB
    made.release(block)
    block = made.allocate(19 * MiB - 512)
    assert block.size == 19 * MiB - 512
    assert made.reserved == 20 * MiB


def test_the_smallest_block_with_room_is_cut() -> None:
    made = CachingAllocator()
    held = [made.allocate(size * MiB) for size in (40, 20, 30)]
    for block in held:
        made.release(block)
    found = made.allocate(25 * MiB)
    assert found.address == held[2].address and found.size == 25 * MiB
    made.allocate(5 * MiB)  # the rest of it
    assert made.allocate(6 * MiB).address == held[1].address
    assert made.reserved == 90 * MiB


def test_free_neighbours_become_one_and_others_do_not() -> None:
    made = CachingAllocator()
    one, two, three = (made.allocate(6 * MiB) for _ in range(3))
    made.release(one)
    made.release(three)
    made.allocate(9 * MiB)  # no piece has room: 6 and 8 MiB
    assert made.reserved == 40 * MiB
    made.release(two)
    made.allocate(20 * MiB)
    assert made.reserved == 40 * MiB, "all three and the rest are one again"


def test_a_pool_keeps_its_segments_to_itself() -> None:
    made = CachingAllocator()
    made.release(made.allocate(12 * MiB))
    made.use("state")
    made.allocate(12 * MiB)
    assert made.reserved == 24 * MiB
    made.use("")
    made.allocate(12 * MiB)
    assert made.reserved == 24 * MiB


def test_free_segments_go_back_before_memory_runs_out() -> None:
    made = CachingAllocator(64 * MiB)
    held = made.allocate(40 * MiB)
    cut = made.allocate(12 * MiB)
    made.release(held)
    made.allocate(44 * MiB)
    assert made.reserved == 56 * MiB and made.most_reserved == 56 * MiB
    with pytest.raises(OutOfMemory):
        made.allocate(30 * MiB)
    made.release(cut)
    made.allocate(20 * MiB)
    assert made.reserved == 64 * MiB


def test_the_most_is_kept_after_all_is_given_back() -> None:
    made = CachingAllocator()
    for block in [made.allocate(3 * MiB) for _ in range(5)]:
        made.release(block)
    assert (made.allocated, made.asked) == (0, 0)
    assert made.most_allocated == made.most_asked == 15 * MiB
    assert made.most_reserved == made.reserved == 20 * MiB
