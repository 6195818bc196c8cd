"""Shapes to trace, whose sizes tell what they depend on, and the shares of a size read off them.

A length that is prime, and divides nothing else of the model, is found again in every size that depends on it: one
run gives exact lines instead of several runs and a fit. Models that scan their tokens chunk by chunk, or one by one,
have a prime number of chunks and of rows as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.memory.profile import Line

END_STEPS = 2  # at each end of a loop: what the last one leaves unused, the one before it need not keep
BLOCK_BYTES = 512  # c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize
# Places of a share, in the order of Line's fields; then what the steps of a loop over tokens or over chunks take, but
# for those at its ends, which leave other things: no state comes before the first, and none is wanted after the last.
FIXED, TOKEN, PAIR, ROW, CHUNK, CHUNK_PAIR, VALID, TOKEN_STEPS, CHUNK_STEPS = PLACES = range(9)
Shares = tuple[tuple[int, int], ...]  # (place, amount) of those that are not zero

# Safe primes (p and (p - 1) / 2 are both prime) whose successor has a prime factor of 19 or more. A length that is
# one leaves its mark on every size that depends on it, or on its neighbours.
_SHORT_LENGTHS = (227, 347, 563, 887, 983)
_LENGTHS = (1283, 1307, 1523, 3203, 3623, 3803, 4007, 4547, 5387, 5483)
_LEAST_CHUNKS = 13  # fewer would be told apart from what a model's dimensions are made of too seldom
_MOST_CHUNKS = 97
_FEWEST_ROWS, _MOST_ROWS = 11, 400
_ROOM = 100  # tokens beyond what the loss takes at once, so that there is a prime number of valid ones beyond it, too
# For layers that take tokens one by one: each step of such a loop is traced.
_FEW_STEPS = (23, 59, 83, 107, 167, 179, 227, 263)


@dataclass(frozen=True)
class Scan:
    """How layers go through their tokens where it is not all at once.

    chunk: tokens to each step of it, 1 for one by one; 0 where no layer does. near: what convolutions add to the
    length that they are given. bounds: there are tables over the ends of chunks, of which there is one more.
    """

    chunk: int = 0
    near: tuple[int, ...] = ()
    bounds: bool = False

    def chunks(self, length: int) -> int:
        return -(-length // self.chunk) if self.chunk else 0


ALL_AT_ONCE = Scan()


def marked_length(dimensions: set[int], shortest: int, longest: int | None = None) -> int:
    """A marked length of `shortest` or more that shares no mark with the model's dimensions, and is no longer than
    `longest`: then it may be shorter than `shortest`."""
    known: tuple[int, ...] = (*_SHORT_LENGTHS, *_LENGTHS)
    if longest is not None and longest < _LENGTHS[0]:
        known, shortest = tuple(reversed(_SHORT_LENGTHS)), 0
    for length in known:
        if shortest <= length <= (longest or length) and _unmistakable(dimensions, _marks(length)):
            return length
    return _LENGTHS[-1] if longest is None else _SHORT_LENGTHS[0]


def marked_rows(dimensions: set[int], scan: Scan, length: int, tokens: int) -> int:
    """A prime number of rows that has so many labels at least (one less than tokens to a row), and shares no mark with
    the rest."""
    others = {*_marks(length), *_scan_marks(scan, length)}
    for rows in range(max(_FEWEST_ROWS, -(-tokens // (length - 1))), _MOST_ROWS):
        if _prime(rows) and rows not in others and _unmistakable(dimensions, (rows,)):
            return rows
    return _MOST_ROWS + 1


def scanned_length(dimensions: set[int], scan: Scan) -> int:
    """The shortest length that marks tokens and chunks alike: no multiple of a chunk, and a prime number of them."""
    if scan.chunk == 1:
        for length in _FEW_STEPS:
            if _unmistakable(dimensions, (length, (length - 1) // 2, *_scan_marks(scan, length))):
                return length
        return _FEW_STEPS[-1]
    longest = _MOST_CHUNKS * scan.chunk
    for length in range((_LEAST_CHUNKS - 1) * scan.chunk + 1, longest):
        chunks = scan.chunks(length)
        if not _prime(chunks) or chunks in (scan.chunk, scan.chunk - 1) or length % 2 == 0:
            continue
        if not _prime(length) or not _prime((length - 1) // 2):
            continue
        marks = (*_marks(length), *_scan_marks(scan, length))
        if min(marks) > 2 and len({*marks}) == len(marks) and _unmistakable(dimensions, marks):
            return length
    return marked_length(dimensions, 8 * scan.chunk)


def marked_valid(dimensions: set[int], scan: Scan, rows: int, length: int) -> int:
    """A prime number of valid tokens for this shape, nearly all of them, that shares no mark with the rest; 0 where
    there is none.
    """
    others = {rows, *_marks(length), *_scan_marks(scan, length)}
    most = rows * (length - 1)  # the loss has no use for the first label of a row
    for count in range(most, most // 2, -1):
        if _prime(count) and count not in others and _unmistakable(dimensions, (count,)):
            return count
    return 0


Shape = tuple[int, int]  # rows, and the length of each


@dataclass(frozen=True)
class Shapes:
    """Shapes to trace: without checkpointing, with it, and of either side of what the loss takes at once."""

    off: Shape
    every: Shape
    short: Shape
    long: Shape


def shapes_to_trace(
    dimensions: set[int], scan: Scan, *, packed: bool, at_once: int, longest: int | None
) -> Shapes:
    """at_once: tokens that the loss takes in one piece; longest: rows that the model has positions for."""
    few = marked_length(dimensions, at_once // 4, longest)
    short = (1 if packed else 3, few)
    if scan.chunk:
        length = scanned_length(dimensions, scan)
        many = (marked_rows(dimensions, scan, length, at_once + _ROOM), length)
        if packed:  # one row, however long: its rows leave no mark
            return Shapes((1, length), (1, length), short, many)
        small = (marked_rows(dimensions, scan, length, 1), length) if scan.chunk == 1 else many
        return Shapes(small, many, small if scan.chunk == 1 else short, many)
    if packed and (beyond := marked_length(dimensions, at_once + 2, longest)) > at_once:
        return Shapes(short, (1, beyond), short, (1, beyond))
    # Many rows rather than long ones, which some models have no positions for.
    many = (7 if 7 * few > at_once else marked_rows(dimensions, scan, few, at_once + _ROOM), few)
    return Shapes(short, (1, few) if packed else many, short, many)


def _marks(length: int) -> tuple[int, ...]:
    return (length, (length - 1) // 2, _largest_factor(length + 1))


def _scan_marks(scan: Scan, length: int) -> Iterator[int]:
    yield from (_largest_factor(length + more) for more in scan.near if more != 1)
    if scan.chunk > 1:
        yield scan.chunks(length)
        if scan.bounds:
            yield _largest_factor(scan.chunks(length) + 1)


def _unmistakable(dimensions: set[int], marks: Sequence[int]) -> bool:
    return all(n % mark for n in dimensions for mark in marks if n)


def _prime(number: int) -> bool:
    return number > 1 and _largest_factor(number) == number


def _largest_factor(number: int) -> int:
    factor = 2
    while factor * factor <= number:
        if number % factor:
            factor += 1
        else:
            number //= factor
    return number


class Marks:
    """Takes sizes apart by the marks of one shape, and of its valid tokens where the loss works on those.

    With length 0 nothing is marked, and every size is fixed."""

    def __init__(self, rows: int, length: int, scan: Scan = ALL_AT_ONCE, valid: int = 0) -> None:
        self._rows, self._length, self._scan, self._valid = rows, length, scan, valid
        self._chunks = scan.chunks(length)
        self._found: dict[int, Shares] = {}
        chunks = self._chunks
        self._units = (1, rows * length, rows * length**2, rows, rows * chunks, rows * chunks**2, valid)

    def steps(self, count: int) -> int | None:
        """TOKEN_STEPS for a loop with a step for each token, CHUNK_STEPS for one over the chunks, else None."""
        if not self._length or not self._scan.chunk:
            return None
        if count == self._length:
            return TOKEN_STEPS
        return CHUNK_STEPS if count == self._chunks else None

    def shares(self, amount: int) -> Shares:
        """What of an amount is fixed, and what goes with tokens, pairs, rows or chunks: scaled to all rows."""
        if (found := self._found.get(amount)) is None:
            found = self._found[amount] = tuple((p, n) for p, n in self._shares(amount) if n)
        return found

    def line(self, sums: Sequence[int]) -> Line:
        if not self._length:
            return Line(sums[FIXED])
        values = [total / unit if total else 0.0 for total, unit in zip(sums, self._units, strict=False)]
        for place, of, count in ((TOKEN_STEPS, TOKEN, self._length), (CHUNK_STEPS, CHUNK, self._chunks)):
            if sums[place]:
                each = sums[place] / ((count - 2 * END_STEPS) * self._rows)
                values[of] += each
                values[ROW] -= 2 * END_STEPS * each
        return Line(*values)

    def _shares(self, amount: int) -> Iterator[tuple[int, int]]:
        length = self._length
        if not length or not amount:
            yield FIXED, _blocks(amount)
            return
        if self._valid and amount % self._valid == 0:
            yield VALID, amount
        elif amount % length == 0:
            # A square of scores, or one with a sink beside it (gpt-oss).
            if amount % (length * length) == 0:
                yield PAIR, self._of_all_rows(amount)
            elif amount % (length * (length + 1)) == 0 and self._scan.chunk != 1:
                yield PAIR, self._of_all_rows(amount // (length + 1) * length)
            else:
                yield TOKEN, self._of_all_rows(amount)
        elif amount % (length - 1) == 0:  # labels and hidden states without the last position
            yield TOKEN, self._of_all_rows(amount // (length - 1) * length)
        elif self._scan.chunk:
            yield from self._scanned(amount)
        else:
            yield FIXED, _blocks(amount)

    def _of_all_rows(self, amount: int) -> int:
        return amount * self._rows if amount % self._rows else amount

    def _scanned(self, amount: int) -> Iterator[tuple[int, int]]:
        """An amount that does not go with the length itself."""
        length, chunks, rows = self._length, self._chunks, self._rows
        for more in self._scan.near:
            if amount % (length + more) == 0:
                each = amount // (length + more)
                yield from ((TOKEN, each * length), (ROW, each * more))
                return
        if self._scan.chunk > 1:
            if amount % chunks**2 == 0:
                yield CHUNK_PAIR, amount
                return
            if amount % chunks == 0:
                yield CHUNK, amount
                return
        if self._scan.bounds:
            bounds = chunks + 1
            if amount % bounds**2 == 0:
                each = amount // bounds**2
                yield from ((CHUNK_PAIR, each * chunks**2), (CHUNK, 2 * each * chunks), (ROW, each))
                return
            if amount % bounds == 0:
                each = amount // bounds
                yield from ((CHUNK, each * chunks), (ROW, each))
                return
        if rows > 1 and amount % rows == 0:
            yield ROW, amount
        else:
            yield FIXED, _blocks(amount)


def _blocks(amount: int) -> int:
    return -(-amount // BLOCK_BYTES) * BLOCK_BYTES
