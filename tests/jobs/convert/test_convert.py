"""What holds for every format: no key is lost, every target is a key of the job file, the text reads back."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.convert.convert import convert
from jobs.convert.formats import axolotl_keys, huggingface, llamafactory, trl
from jobs.convert.rules import To
from jobs.convert.writing import text_of
from jobs.errors import UsageError
from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.options.extra import ALLOWED
from jobs.jobfile.spec import JobSpec, parse_spec
from tests.jobs.convert.files import AXOLOTL, LLAMAFACTORY, SCRIPT, TRL

TABLES = {
    "axolotl": axolotl_keys.TABLE,
    "huggingface": huggingface.TABLE,
    "llamafactory": llamafactory.TABLE,
    "trl": trl.TABLE,
}
ALL = [(AXOLOTL, "a.yml"), (LLAMAFACTORY, "b.yaml"), (TRL, "c.yaml"), (SCRIPT, "d.py")]


def is_key(path: str) -> bool:
    if path.startswith("training.extra."):
        return path.removeprefix("training.extra.") in ALLOWED
    at: Any = JobSpec
    for name in path.split("."):
        field = getattr(at, "model_fields", {}).get(name)
        if field is None:
            return False
        at = field.annotation
    return True


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_mapped_to_one_of_the_job_file(name: str) -> None:
    paths = {rule.path for rule in TABLES[name].values() if isinstance(rule, To)}
    assert {path for path in paths if not is_key(path)} == set()


@pytest.mark.parametrize("name", TABLES)
def test_every_reason_is_a_sentence(name: str) -> None:
    reasons = [rule.reason for rule in TABLES[name].values() if not isinstance(rule, To)]
    assert all(len(reason) > 10 and not reason.endswith(".") for reason in reasons)


@pytest.mark.parametrize(("text", "source"), ALL)
def test_no_key_is_lost(text: str, source: str) -> None:
    made = convert(text, source)
    if not source.endswith(".py"):
        assert {one.key for one in made.entries} >= parse_yaml(text).keys()
    assert all(one.path for one in made.of("mapped"))
    assert all(one.reason for one in made.entries if one.what != "mapped")


@pytest.mark.parametrize(("text", "source"), ALL)
def test_every_key_alone_is_accounted_for(text: str, source: str) -> None:
    """Whatever is beside it, and whatever its value."""
    if source.endswith(".py"):
        return
    tool = convert(text, source).tool
    for key in TABLES[tool]:
        for value in ("true", "7", "[a]", "''"):
            try:
                made = convert(f"{key}: {value}", source, tool)
            except Exception as error:
                assert type(error).__name__ == "SpecError", f"{key}: {value}: {error!r}"
                continue
            assert key in {one.key for one in made.entries}, f"{key}: {value}"


@pytest.mark.parametrize(("text", "source"), ALL)
def test_the_text_reads_back(text: str, source: str) -> None:
    made = convert(text, source)
    written = text_of(made, source)
    read = parse_yaml(written)
    assert read == made.job
    if not made.missing:
        parse_spec(read)
    for entry in made.of("listed"):
        assert entry.key in written


def test_a_comment_can_t_be_broken_out_of() -> None:
    made = convert('base_model: a/b\nevil: "x\\nname: owned"\nsequence_len: 8\n', "a.yml", "axolotl")
    assert "name" not in parse_yaml(text_of(made, "a\nname: owned"))


@pytest.mark.parametrize("text", ["seed: 1", "base_model: a\nfinetuning_type: lora"])
def test_a_file_that_nobody_can_tell(text: str) -> None:
    with pytest.raises(UsageError, match="say --from axolotl, llamafactory or trl"):
        convert(text, "a.yaml")
