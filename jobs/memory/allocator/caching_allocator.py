"""CachingAllocator: torch's CUDA allocator with segments that don't expand, its rules without its card.

c10/cuda/CUDACachingAllocator.cpp of torch 2.13, as set by default, on one stream. tests/cuda_double/test_simulated.py
holds it against torch's own, byte for byte.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from jobs.units import MiB

BLOCK = 512
SMALL = MiB  # up to here from segments of 2 MiB
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MiB, 20 * MiB
OWN_SEGMENT = 10 * MiB  # from here on a segment of its own, in whole pages
PAGE = 2 * MiB
HIGHEST = 1 << 46  # addresses go down from here, as mmap hands them out


class OutOfMemory(Exception):
    """The card has no more, even after free segments were given back."""


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment; its neighbours there, None at an end. asked: what was wanted of it, in whole blocks."""

    address: int
    size: int
    asked: int
    pool: Pool
    before: Block | None = None
    after: Block | None = None
    free: bool = False


class Pool:
    """Free blocks of one kind, by size, then by address."""

    __slots__ = ("at", "least_rest", "order")

    def __init__(self, least_rest: int) -> None:
        self.least_rest = least_rest  # a block is cut where so much of it would be left
        self.order: list[tuple[int, int]] = []
        self.at: dict[int, Block] = {}

    def add(self, block: Block) -> None:
        insort(self.order, (block.size, block.address))
        self.at[block.address] = block

    def remove(self, block: Block) -> None:
        del self.order[bisect_left(self.order, (block.size, block.address))]
        del self.at[block.address]

    def take(self, size: int) -> Block | None:
        """The smallest block with room for so many bytes."""
        order = self.order
        place = bisect_left(order, (size, 0))
        return self.at.pop(order.pop(place)[1]) if place < len(order) else None


class CachingAllocator:
    """Bytes reserved, allocated, and asked for, now and at most. capacity_bytes: what the card has for segments."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.reserved = self.allocated = self.asked = 0
        self.most_reserved = self.most_allocated = self.most_asked = 0
        self._capacity = capacity_bytes
        self._next = HIGHEST
        self._pools: dict[str, tuple[Pool, Pool]] = {}
        self.use("")

    def use(self, name: str) -> None:
        """From here on allocate from this memory pool; "" is the one that there always is."""
        if name not in self._pools:
            self._pools[name] = (Pool(BLOCK), Pool(SMALL + 1))
        self._small, self._large = self._pools[name]

    def allocate(self, count: int) -> Block:
        """Raises OutOfMemory."""
        size = -(-count // BLOCK) * BLOCK or BLOCK
        pool = self._small if size <= SMALL else self._large
        block = pool.take(size) or self._segment(size, pool)
        rest = block.size - size
        if rest >= pool.least_rest:
            left = Block(block.address + size, rest, 0, pool, block, block.after, True)
            if block.after is not None:
                block.after.before = left
            block.after, block.size = left, size
            pool.add(left)
        block.free, block.asked = False, size
        self.allocated += block.size
        if self.allocated > self.most_allocated:
            self.most_allocated = self.allocated
        self.asked += size
        if self.asked > self.most_asked:
            self.most_asked = self.asked
        return block

    def release(self, block: Block) -> None:
        """Give a block back; free neighbours become one."""
        self.allocated -= block.size
        self.asked -= block.asked
        pool = block.pool
        before, after = block.before, block.after
        if before is not None and before.free:
            pool.remove(before)
            before.size += block.size
            before.after = after
            if after is not None:
                after.before = before
            block = before
        if after is not None and after.free:
            pool.remove(after)
            block.size += after.size
            block.after = after.after
            if after.after is not None:
                after.after.before = block
        block.free = True
        pool.add(block)

    def _segment(self, size: int, pool: Pool) -> Block:
        if pool is self._small:
            whole = SMALL_SEGMENT
        else:
            whole = LARGE_SEGMENT if size < OWN_SEGMENT else -(-size // PAGE) * PAGE
        if self._capacity is not None and self.reserved + whole > self._capacity:
            self._give_back()
            if self.reserved + whole > self._capacity:
                raise OutOfMemory(f"{size} bytes do not fit")
        self._next -= whole
        self.reserved += whole
        if self.reserved > self.most_reserved:
            self.most_reserved = self.reserved
        return Block(self._next, whole, 0, pool)

    def _give_back(self) -> None:
        """Whole free segments, all of them."""
        for pool in (pool for pools in self._pools.values() for pool in pools):
            for block in list(pool.at.values()):
                if block.before is None and block.after is None:
                    pool.remove(block)
                    self.reserved -= block.size
