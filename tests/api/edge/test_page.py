"""The files of the page: what they may do, how long they are kept, how large they are, and whose they are."""

from __future__ import annotations

import gzip
import hashlib
import json
import re

import pytest

from orchestrator.web.site import FOLDER, site

MOST_BYTES = 200 * 1024
VENDORED = json.loads((FOLDER / "vendor" / "vendor.json").read_text())
SOURCES = [path for path in FOLDER.rglob("*") if path.is_file() and path.parent.name != "vendor"]


@pytest.fixture
def anybody(yard):
    """A browser that is not signed in."""
    yard.http.headers.pop("Authorization")
    yard.http.headers["Host"] = "localhost:7420"
    return yard.http


def test_the_page_is_for_anybody_and_may_only_ask_here(anybody):
    answer = anybody.get("/")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert f"/v/{site().build}/js/main.js" in answer.text


def test_files_are_kept_for_good_and_those_of_another_version_say_reload(anybody):
    answer = anybody.get(f"/v/{site().build}/js/main.js")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert "immutable" in answer.headers["Cache-Control"]
    old = anybody.get("/v/000000000000/js/main.js")
    assert (old.status_code, old.headers["Cache-Control"]) == (404, "no-store")
    assert "reload" in old.text


def test_files_are_packed_for_who_takes_it(anybody):
    path = f"/v/{site().build}/vendor/uplot.js"
    plain = anybody.get(path, headers={"Accept-Encoding": "identity"})
    packed = anybody.get(path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip" and packed.content == plain.content
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 2
    assert gzip.decompress(site().files[path].packed) == plain.content


def test_other_methods_and_paths_are_refused(anybody):
    assert anybody.post("/").status_code == 405
    assert anybody.head("/").status_code == 200
    for path in ("/nothing", "/../etc/passwd", f"/v/{site().build}/../../site.py"):
        assert anybody.get(path).status_code == 404, path


def test_all_files_together_are_small():
    assert site().size < MOST_BYTES


def test_what_others_wrote_is_listed_with_version_and_licence_and_unchanged():
    listed = {name: digest for one in VENDORED["packages"] for name, digest in one["files"].items()}
    here = {path.name for path in (FOLDER / "vendor").iterdir()} - {"vendor.json"}
    assert here == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == digest, name
    for one in VENDORED["packages"]:
        assert one["licence"] in ("MIT", "Apache-2.0") and re.fullmatch(r"\d+\.\d+\.\d+", one["version"])
        assert one["copyright"].startswith("Copyright (c) ") or one["licence"] == "Apache-2.0"
    assert (
        VENDORED["MIT"].startswith("Permission is hereby granted") and "WITHOUT WARRANTY" in VENDORED["MIT"]
    )


def test_the_page_has_nothing_inline_and_asks_no_other_server():
    text = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)", text) == []
    assert "<style" not in text and " style=" not in text and " on" not in re.sub(r"<p[^<]*", "", text)
    for path in SOURCES:
        found = re.findall(r"https?://[^\s'\"`)]+", path.read_text())
        assert [one for one in found if one != "http://www.w3.org/2000/svg"] == [], path
        assert "innerHTML" not in path.read_text(), path


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.suffix == ".js"], ids=lambda path: path.name
)
def test_what_a_module_imports_is_there(path):
    for name in re.findall(r"""(?:from|import\()\s*["']([^"']+)["']""", path.read_text()):
        assert name.startswith("."), f"{name}: a browser finds paths only"
        assert (path.parent / name).resolve().is_file(), name
