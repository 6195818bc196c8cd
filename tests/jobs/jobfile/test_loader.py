"""The text of a job file: safe YAML, and a line for what is not readable."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import SpecError
from jobs.jobfile import loader
from jobs.jobfile.loader import MAX_FILE_BYTES, parse_yaml
from tests import plain_yaml

CHECKOUT = Path(__file__).resolve().parents[3]
FILES = [*CHECKOUT.glob("jobs/examples/**/*.yaml"), *CHECKOUT.glob("deploy/demo/jobs/*.yaml")]
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *CHECKOUT.glob("docs/*.md")]
BLOCKS = [
    (f"{page.name}:{page.read_text()[: block.start()].count(chr(10)) + 1}", block[1])
    for page in PAGES
    for block in re.finditer(r"^```ya?ml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize(
    "text", [*(file.read_text() for file in FILES), *(text for _, text in BLOCKS)],
    ids=[*(str(file.relative_to(CHECKOUT)) for file in FILES), *(name for name, _ in BLOCKS)],
)  # fmt: skip
def test_what_we_write_is_the_same_for_a_reader_of_yaml_1_1(text: str) -> None:
    assert yaml.safe_load(text) == parse_yaml(text)


def test_there_is_something_to_read() -> None:
    assert len(FILES) >= 8 and len(BLOCKS) >= 6


def fault(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "job.yaml")
    assert len(caught.value.faults) == 1
    return str(caught.value.faults[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "file: is not a mapping of keys (given: nothing); `tuneyard init` writes one"),
        ("[1]", "file: is not a mapping of keys (given: list)"),
        ("hello", "file: is not a mapping of keys (given: str)"),
        ("a: [", "line 1, column 5: not readable as YAML: "),
        ("a: 1\n\tb: 2", "line 2, column 1: not readable as YAML: "),
        (
            "m: {kind: full, kind: lora}",
            "line 1, column 17: not readable as YAML: the key 'kind' stands twice",
        ),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: not readable as YAML: the key 'a' stands twice"),
        ("x: &a 1\ny: &a 2", "line 2, column 4: not readable as YAML: the anchor &a stands twice"),
        ("x: &a [1]\ny: *a", "line 2, column 4: not readable as YAML: aliases (*name) are not allowed"),
        ("x: !!python/object:os.system a", "line 1, column 4: not readable as YAML: could not determine"),
        ("x: !Ref a", "line 1, column 4: not readable as YAML: could not determine"),
        ("? [a]\n: b", "line 1, column 3: not readable as YAML: "),
        ("--- {a: 1}\n--- {b: 1}", "line 2, column 1: not readable as YAML: expected a single document"),
        ("a: \x00", "file: not readable as YAML: "),
        (
            "x: " + "[" * 5000,
            "line 1, column 67: not readable as YAML: nested too deeply: more than 64 levels",
        ),
        (
            "a" * (MAX_FILE_BYTES + 1),
            "file: is too large (given: 262145 bytes); a job file has at most 262144 bytes",
        ),
        ("é" * (MAX_FILE_BYTES // 2 + 1), "file: is too large"),
    ],
    ids=lambda text: text[:20],
)
def test_unreadable(text: str, said: str) -> None:
    assert fault(text).startswith(said)


def test_an_alias_bomb_is_refused_at_its_first_alias() -> None:
    bomb = "a: &a [x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "aliases" in fault(bomb)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1_0", "1_0"),
        ("7", 7),
        ("-3", -3),
        ("010", 10),
        ("1.5", 1.5),
        (".5", 0.5),
        ("2e-4", 2e-4),
        ("-.inf", float("-inf")),
    ],
)
def test_words_that_yaml_1_1_would_turn_into_something_else(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


_PIECES = (
    "a",
    "b",
    "1",
    "2e-4",
    ":",
    " ",
    "\n",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "'",
    '"',
    "#",
    "&a ",
    "!!str ",
    "|",
)
_MORE = (
    "\n  ",
    "? ",
    "~",
    "true",
    ".5",
    "-",
    "é",
    "%",
    ">",
    "\x85",
    " : ",
    ": ",
    "null",
    "0x1f",
    "1_0",
    ".nan",
    "*a",
)


def _read(load: Callable[[str], object], text: str) -> str:
    try:
        return repr(load(text))
    except (yaml.YAMLError, ValueError):
        return "refused"


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*_PIECES, *_MORE]), max_size=14).map("".join))
def test_it_reads_what_the_python_of_the_same_library_reads(text: str) -> None:
    ours, theirs = _read(loader._load, text), _read(plain_yaml.load, text)
    assert ours == theirs or ("refused" in (ours, theirs) and "#" in text), (
        text
    )  # libyaml: `>#` has no comment


WORDS = st.text("ab :-#[]{}'\"\\\n\té10.eE~&*!|>%@`,?", max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=4), st.sampled_from([None, 1]))
def test_json_is_read_as_what_it_is(value: dict[str, object], indent: int | None) -> None:
    assert parse_yaml(json.dumps(value, indent=indent, ensure_ascii=False)) == value


FULL = MAX_FILE_BYTES - 16
SHAPES = {
    "values": "a: [" + "1, " * (FULL // 3) + "]",
    "keys": "\n".join(f"k{number}: {number}" for number in range(FULL // 14)),
    "brackets": "x: " + "[" * FULL,
    "braces": "x: " + "{" * FULL,
    "dashes": "- " * (FULL // 2),
    "nested keys": "\n".join(" " * depth + "a:" for depth in range(700)),
    "escapes": 'a: "' + "\\n" * (FULL // 2) + '"',
    "words": "a: " + "x " * (FULL // 2),
    "lines": "a: |\n" + "  x\n" * (FULL // 4),
    "documents": "---\n" * (FULL // 4),
    "anchors": "".join(f"&a{number} k{number}: 1\n" for number in range(FULL // 18)),
    "comments": "#\n" * (FULL // 2),
    "long key": "k" * FULL + ": 1",
    "open": '"' * FULL,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_file_of_the_largest_size_takes_long(shape: str) -> None:
    """In time of the processor: the Python of the same library takes several seconds for most of these."""
    text = SHAPES[shape][:MAX_FILE_BYTES]
    began = time.process_time()
    with contextlib.suppress(SpecError):
        parse_yaml(text)
    assert time.process_time() - began < 2.0


@given(st.text(max_size=200))
def test_any_text_is_a_mapping_or_a_spec_error(text: str) -> None:
    try:
        assert isinstance(parse_yaml(text), dict)
    except SpecError as error:
        assert error.faults
