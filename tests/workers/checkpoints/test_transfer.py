"""A checkpoint comes from another host: whole or not at all, whatever breaks on the way; and the log says which."""

from __future__ import annotations

import json
import logging
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.identity import Owner
from jobs.messages.reports import Kept
from jobs.units import MiB
from tests.workers.checkpoints.test_folders import BREAKAGES, stage
from workers.attempt_folder import checkpoints_root
from workers.checkpoints.folders import listed, name_of, publish_checkpoint, staging_folder
from workers.checkpoints.manifest import MANIFEST, Corrupt, files_in, verify
from workers.checkpoints.transfer import FETCH_S, PAUSES_S, Carrier, Keeper, Offer, SourceLost

PIECE = 100  # a checkpoint of these tests has 1,005 bytes


class Clock:
    """Passes only while somebody sleeps, or for each piece."""

    def __init__(self) -> None:
        self.now, self.piece_s = 0.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Network:
    """Hosts whose folders are here. breaks: pieces until the line breaks, for each time it is opened; None: never.

    at_piece: what happens meanwhile, by the number of the piece.
    """

    def __init__(self, homes: dict[str, Path], clock: Clock, piece: int = PIECE) -> None:
        self.homes, self.clock, self.piece = homes, clock, piece
        self.at_piece: dict[int, Callable[[], None]] = {}
        self.breaks: list[int | None] = []
        self.sent: list[tuple[str, int]] = []  # (file, begin) of every piece
        self.opened = 0

    @contextmanager
    def reach(self, place: Kept, job_id: int, obey: Callable[[], None]) -> Iterator[Network]:
        self.opened += 1
        self.left = self.breaks.pop(0) if self.breaks else None
        if place.host not in self.homes:
            raise SourceLost(f"host {place.host} is not in the Ray cluster")
        self.keeper = Keeper(self.homes[place.host], job_id)
        yield self

    def offers(self, after: int) -> list[Offer]:
        return self.keeper.offers(after)

    def read(self, step: int, name: str, begin: int, end: int) -> Iterator[bytes]:
        while begin < end:
            if self.left == 0:
                raise SourceLost("the connection broke")
            self.left = None if self.left is None else self.left - 1
            self.clock.now += self.clock.piece_s
            self.sent.append((name, begin))
            self.at_piece.get(len(self.sent), lambda: None)()
            piece = self.keeper.read(step, name, begin, min(self.piece, end - begin))
            yield piece
            begin += len(piece)


class Scene:
    """Job 1 had checkpoints on host a; an attempt of it begins on host b."""

    def __init__(self, tmp_path: Path) -> None:
        self.homes = {"a": tmp_path / "a", "c": tmp_path / "c"}
        self.root = checkpoints_root(tmp_path / "b", 1)
        self.staging = staging_folder(self.root, 2)
        self.staging.mkdir(parents=True)
        self.clock = Clock()
        self.network = Network(self.homes, self.clock)
        self.obey: Callable[[], None] = lambda: None

    def has(self, host: str, *steps: int, content: bytes = b"x" * 1000) -> Path:
        root = checkpoints_root(self.homes[host], 1)
        for step in steps:
            publish_checkpoint(stage(root, content), root, step)
        return root / name_of(steps[-1])

    def newest(self, *kept: Kept, own: tuple[Path, int] | None = None) -> tuple[Path, int] | None:
        carrier = Carrier(
            *(Owner(job_id=1), self.root, self.staging, self.network.reach, lambda: self.obey()),
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        return carrier.newest(kept, own)

    def there(self) -> list[int]:
        return [step for _, step in listed(self.root)]


@pytest.fixture
def scene(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Scene:
    caplog.set_level(logging.INFO)
    return Scene(tmp_path)


def at(host: str, step: int | None = None, **fields: Any) -> Kept:
    return Kept(host=host, home="not read by this network", step=step, **fields)


def test_it_is_fetched_whole_and_said_so(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    source = scene.has("a", 20, 50)
    assert scene.newest(at("a", 50)) == (scene.root / name_of(50), 50)
    assert verify(scene.root / name_of(50)) == verify(source)
    assert scene.there() == [50]
    assert not list(scene.staging.iterdir())
    assert "checkpoint step-00000050 (1005 bytes) is fetched from host a" in caplog.text
    assert "can't be had" not in caplog.text


def test_where_it_is_already_nobody_is_asked(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.has("a", 50)
    own = (scene.root / name_of(50), 50)
    assert scene.newest(at("a", 50), own=own) == own
    assert scene.network.opened == 0 and not caplog.records


def test_the_best_of_several_hosts_is_taken(scene: Scene) -> None:
    """What host c has nobody knows: it was lost before it could say."""
    scene.has("a", 50)
    scene.has("c", 60)
    assert scene.newest(at("c"), at("a", 50)) == (scene.root / name_of(60), 60)
    assert scene.network.opened == 1


def test_a_host_of_which_nobody_knows_may_have_nothing_newer(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.has("c", 40)
    own = (scene.root / name_of(50), 50)
    assert scene.newest(at("c"), own=own) == own
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("after", range(11))
def test_a_line_that_breaks_is_gone_on_from(after: int, scene: Scene) -> None:
    scene.has("a", 50)
    scene.network.breaks = [after]
    assert scene.newest(at("a", 50)) == (scene.root / name_of(50), 50)
    verify(scene.root / name_of(50))
    assert scene.network.opened == 2
    assert len(scene.network.sent) == len(set(scene.network.sent)) == 11, "a piece was sent twice"


def test_a_line_that_breaks_for_ever_is_given_up(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.has("a", 50)
    scene.network.breaks = [3] + [0] * 20
    own = (scene.root / name_of(20), 20)
    assert scene.newest(at("a", 50), own=own) == own
    assert scene.network.opened == len(PAUSES_S) + 1
    assert scene.there() == []
    assert "the checkpoint of step 50 can't be fetched from host a: the connection broke" in caplog.text
    assert "this attempt goes on from that of step 20" in caplog.text


def test_a_slow_line_is_given_up_in_time(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.has("a", 50)
    scene.clock.piece_s = FETCH_S / 5
    assert scene.newest(at("a", 50)) is None
    assert scene.clock.now <= FETCH_S * 1.3
    assert "came within 25m" in caplog.text and "goes on from step 0" in caplog.text


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_damaged_one_is_passed_over_for_the_one_before(
    breakage: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.has("a", 40, content=b"y" * 1000)
    BREAKAGES[breakage](scene.has("a", 50))
    assert scene.newest(at("a", 50)) == (scene.root / name_of(40), 40)
    assert scene.there() == [40]
    verify(scene.root / name_of(40))
    assert "the checkpoint of step 50 can't be had" in caplog.text


def test_one_that_is_cut_short_at_its_source_is_never_seen(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    source = scene.has("a", 50)
    (source / "weights").write_bytes(b"x" * 10)
    assert scene.newest(at("a", 50)) is None
    assert scene.there() == []
    assert "checkpoint step-00000050 of host a is passed over: weights ends after 10 bytes" in caplog.text
    assert scene.network.opened == 1, "asking again would not help"


def test_one_that_is_cut_short_on_the_way_is_asked_for_again(scene: Scene) -> None:
    """A source that believes to be done: what is there by then is not taken for all of it."""
    scene.has("a", 50)
    real, calls = scene.network.read, []

    def read(step: int, name: str, begin: int, end: int) -> Iterator[bytes]:
        calls.append(begin)
        for number, piece in enumerate(real(step, name, begin, end)):
            if len(calls) > 2 or number < 4:
                yield piece

    scene.network.read = read  # type: ignore[method-assign]
    assert scene.newest(at("a", 50)) == (scene.root / name_of(50), 50)
    assert calls == [0, 0, 5, 400], "the first file is done, the second goes on after its fourth piece"
    verify(scene.root / name_of(50))


def test_a_host_that_is_away_or_gone_is_named(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    assert scene.newest(at("a", 50, away=True), at("gone", 40)) is None
    assert "host a has the checkpoint of step 50, and does not answer" in caplog.text
    assert "step 40 can't be fetched from host gone: host gone is not in the Ray cluster" in caplog.text
    assert "goes on from step 0" in caplog.text


def test_a_full_disk_is_seen_before_anything_is_sent(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.has("a", 50, content=b"x" * 3 * MiB)
    usage = shutil.disk_usage(scene.root)._replace(free=MiB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert scene.newest(at("a", 50)) is None
    assert scene.network.sent == []
    assert "it takes 3 MiB, and the disk has 1 MiB left" in caplog.text


def test_a_disk_that_fills_up_on_the_way_keeps_no_half(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.has("a", 50)
    (scene.staging / "carried").mkdir()
    real = scene.network.read

    def full(step: int, name: str, begin: int, end: int) -> Iterator[bytes]:
        yield from real(step, name, begin, end)
        raise OSError(28, "No space left on device")

    scene.network.read = full  # type: ignore[method-assign]
    assert scene.newest(at("a", 50)) is None
    assert "can't be stored here: [Errno 28] No space left on device" in caplog.text
    assert not list(scene.staging.iterdir())
    assert scene.there() == []


def test_a_stop_is_obeyed_on_the_way(scene: Scene) -> None:
    class Stop(Exception):
        pass

    def obey() -> None:
        if len(scene.network.sent) == 4:
            raise Stop

    scene.has("a", 50)
    scene.obey = obey
    with pytest.raises(Stop):
        scene.newest(at("a", 50))
    assert len(scene.network.sent) == 4 and scene.there() == []


def test_a_stop_is_obeyed_between_tries(scene: Scene) -> None:
    class Stop(Exception):
        pass

    def obey() -> None:
        if scene.clock.now > PAUSES_S[0] / 2:
            raise Stop

    scene.obey = obey
    with pytest.raises(Stop):
        scene.newest(at("gone", 50))
    assert scene.network.opened == 1


def test_a_checkpoint_that_was_made_anew_meanwhile_is_fetched_anew(scene: Scene) -> None:
    """An old trainer that was not ended yet saved once more."""
    source = scene.has("a", 50)
    real, once = scene.network.reach, []

    @contextmanager
    def reach(*given: Any) -> Iterator[Network]:
        if scene.network.opened == 1 and not once:
            once.append(shutil.rmtree(source))
            scene.has("a", 50, content=b"z" * 1000)
        with real(*given) as line:
            yield line

    scene.network.reach = reach  # type: ignore[method-assign, assignment]
    scene.network.breaks = [8]
    assert scene.newest(at("a", 50)) is not None
    assert (scene.root / name_of(50) / "weights").read_bytes() == b"z" * 1000


@pytest.mark.parametrize("name", ["/etc/passwd", "../../2/checkpoints/x", "", ".", MANIFEST, "deep/../../x"])
def test_a_manifest_names_nothing_outside_its_checkpoint(name: str) -> None:
    with pytest.raises(Corrupt, match="which is no file of a checkpoint"):
        files_in(json.dumps({"files": {name: {"size": 1, "sha256": "0"}}}))


@pytest.mark.parametrize(
    "manifest", ["", "[]", '{"files": [1]}', '{"files": {"a": {}}}', '{"files": {"a": {"size": "x"}}}']
)
def test_a_manifest_that_is_none_is_told_so(manifest: str) -> None:
    with pytest.raises(Corrupt, match="can't be read"):
        files_in(manifest)


def test_a_keeper_reads_only_what_a_manifest_lists(scene: Scene, tmp_path: Path) -> None:
    folder = scene.has("a", 50)
    (tmp_path / "secret").write_text("secret")
    (folder / "note").write_text("not listed")
    keeper = Keeper(scene.homes["a"], 1)
    assert keeper.read(50, "weights", 990, 10) == b"x" * 10
    for name in ("note", "../../../../../secret", str(tmp_path / "secret")):
        with pytest.raises(Corrupt, match="is no file of step-00000050"):
            keeper.read(50, name, 0, PIECE)
    (folder / "weights").unlink()
    (folder / "weights").symlink_to(tmp_path / "secret")
    with pytest.raises(Corrupt, match="is no file of"):
        keeper.read(50, "weights", 0, PIECE)
    assert Keeper(scene.homes["a"], 2).offers(0) == [], "another job's"


def test_a_large_file_is_fetched_without_holding_it_in_memory(scene: Scene) -> None:
    """The trainer fetches it: on a CPU card whatever it held would count towards the limit of the job."""
    size = 48 * MiB
    scene.network.piece = MiB
    scene.has("a", 10, content=bytes(size))
    tracemalloc.start()
    try:
        found = scene.newest(at("a", 10))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == (scene.root / name_of(10), 10)
    assert len(scene.network.sent) >= size // MiB, "it came through the network"
    assert peak < 8 * MiB
