"""workers/profiler/probe_shapes.py: shapes that leave their mark on sizes, and what is read off them again."""

from __future__ import annotations

import pytest

from jobs.memory.profile import Line
from workers.profiler.probe_shapes import (
    CHUNK_STEPS,
    END_STEPS,
    PLACES,
    ROW,
    TOKEN_STEPS,
    Marks,
    Scan,
    marked_length,
    marked_rows,
    scanned_length,
    shapes_to_trace,
)

DIMENSIONS = {192, 448, 6, 2, 4001, 32}


def test_a_marked_length_divides_nothing_of_the_model() -> None:
    assert marked_length({4096, 14336}, 1000) == 1283
    assert marked_length({1283 * 4}, 1000) == 1307
    assert marked_length({641 * 8}, 1000) == 1307  # (1283 - 1) / 2
    assert marked_length({107 * 16}, 1000) == 1307  # the largest factor of 1283 + 1


def test_a_marked_length_is_no_longer_than_the_model_has_positions_for() -> None:
    assert marked_length({768}, 1024, longest=512) == 347
    assert marked_length({768}, 1024, longest=1024) == 983
    assert marked_length({768}, 1024, longest=2048) == 1283


@pytest.mark.parametrize("scan", [Scan(64, (3,)), Scan(256, (3,), bounds=True), Scan(128, (3,), bounds=True)])
def test_a_scanned_length_has_a_prime_number_of_chunks_and_fills_the_last_of_them_in_part(scan: Scan) -> None:
    length = scanned_length(DIMENSIONS, scan)
    chunks = scan.chunks(length)
    assert length % scan.chunk != 0
    for number in (length, chunks):
        assert all(number % n for n in range(2, number))
        assert all(n % number for n in DIMENSIONS)
    rows = marked_rows(DIMENSIONS, scan, length, 4098)
    assert rows * length >= 4098 and rows not in (chunks, length)


@pytest.mark.parametrize("scan", [Scan(64, (3,)), Scan(256, (3,), bounds=True), Scan(1, (3,))])
def test_what_a_size_depends_on_is_read_off_it(scan: Scan) -> None:
    """Sizes made of known shares, at the marked shape, give these shares back."""
    length = scanned_length(DIMENSIONS, scan)
    rows = marked_rows(DIMENSIONS, scan, length, 4098)
    marks, chunks = Marks(rows, length, scan), scan.chunks(length)
    sizes = {
        rows * length * 384: Line(token=384),
        rows * length**2 * 12: Line(pair=12),
        rows * (length + 3) * 384: Line(token=384, row=3 * 384),
        rows * 64 * 32 * 4: Line(row=64 * 32 * 4),
        448 * 192 * 2: Line(448 * 192 * 2),
    }
    if scan.chunk > 1:
        padded = chunks * scan.chunk
        sizes |= {rows * padded * 384: Line(chunk=scan.chunk * 384), rows * chunks**2 * 6: Line(chunk_pair=6)}
    if scan.bounds:
        each = 64 * 32 * 4
        sizes[rows * (chunks + 1) * each] = Line(chunk=each, row=each)
        sizes[rows * (chunks + 1) ** 2 * 6] = Line(row=6, chunk=12, chunk_pair=6)
    for size, line in sizes.items():
        sums = [0] * len(PLACES)
        for place, amount in marks.shares(size):
            sums[place] += amount
        found = marks.line(sums)
        assert found.as_list() == pytest.approx(line.as_list(), rel=0.02), (size, found, line)
        assert found.at_length(length, scan.chunk).at(rows * length, rows * length**2) == pytest.approx(size)


def test_loops_over_tokens_and_chunks_are_known_by_their_steps() -> None:
    assert Marks(11, 1187, Scan(64)).steps(19) == CHUNK_STEPS
    assert Marks(11, 1187, Scan(64)).steps(1187) == TOKEN_STEPS
    assert Marks(11, 1187, Scan(64)).steps(64) is None
    assert Marks(7, 1283).steps(1283) is None, "a model that scans nothing"


@pytest.mark.parametrize(("scan", "place"), [(Scan(64), CHUNK_STEPS), (Scan(1), TOKEN_STEPS)])
def test_what_the_ends_of_a_loop_take_does_not_go_with_its_steps(scan: Scan, place: int) -> None:
    """A loop that keeps 5 bytes of a row at each step but the last two, and 7 more at its first."""
    rows, length = 11, 1187
    steps = scan.chunks(length)
    sums = [0] * len(PLACES)
    sums[ROW] = rows * (END_STEPS * 5 + 7)
    sums[place] = rows * 5 * (steps - 2 * END_STEPS)
    found = Marks(rows, length, scan).line(sums)
    for other in (640, 1536):
        kept = 3 * (5 * (scan.chunks(other) - END_STEPS) + 7)
        assert found.at_length(other, scan.chunk).at(3 * other, 3 * other**2) == pytest.approx(kept)


def test_shapes_are_on_either_side_of_what_the_loss_takes_at_once() -> None:
    for scan in (Scan(), Scan(64, (3,)), Scan(1)):
        for packed in (False, True):
            for longest in (None, 512):
                found = shapes_to_trace(DIMENSIONS, scan, packed=packed, at_once=4096, longest=longest)
                assert found.short[0] * found.short[1] <= 4096 < found.long[0] * found.long[1]
    plain = shapes_to_trace(DIMENSIONS, Scan(), packed=False, at_once=4096, longest=None)
    assert (plain.off, plain.every) == ((3, 1283), (7, 1283))
