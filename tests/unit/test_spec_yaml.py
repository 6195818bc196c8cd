"""The text of a job file: safe YAML, and a line for what is not readable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import SpecError
from jobs.jobfile import MAX_FILE_BYTES, parse_yaml

CHECKOUT = Path(__file__).resolve().parents[2]
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
        ("x: &a [1]\ny: *a", "line 2, column 4: not readable as YAML: aliases (*name) are not allowed"),
        ("x: !!python/object:os.system a", "line 1, column 4: not readable as YAML: could not determine"),
        ("x: !Ref a", "line 1, column 4: not readable as YAML: could not determine"),
        ("? [a]\n: b", "line 1, column 3: not readable as YAML: "),
        ("--- {a: 1}\n--- {b: 1}", "line 2, column 1: not readable as YAML: expected a single document"),
        ("a: \x00", "file: not readable as YAML: "),
        ("x: " + "[" * 5000, "file: not readable as YAML: it is nested too deeply"),
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


@given(st.text(max_size=200))
def test_any_text_is_a_mapping_or_a_spec_error(text: str) -> None:
    try:
        assert isinstance(parse_yaml(text), dict)
    except SpecError as error:
        assert error.faults
