"""tuneyard convert: files of other tools, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.spec import parse_spec
from tests.cli.conftest import Tuneyard
from tests.jobs.convert.files import AXOLOTL, LLAMAFACTORY, SCRIPT, TRL


def test_a_job_file_is_written(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(AXOLOTL)
    ran = bare("convert", "one.yml")
    assert ran.code == 0
    assert ran.out.startswith("wrote job.yaml from axolotl: ")
    assert "2 not honoured" in ran.out and "evals_per_epoch" in ran.out and "2 without a value" in ran.out
    assert ran.out.endswith("next: tuneyard plan job.yaml\n")
    assert parse_spec(parse_yaml((tmp_path / "job.yaml").read_text())).method.kind == "qlora"
    again = bare("convert", "one.yml")
    assert (again.code, "job.yaml is there already" in again.err) == (2, True)
    assert bare("convert", "one.yml", "--force").code == 0


def test_strict_fails_where_anything_is_not_honoured(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(AXOLOTL)
    (tmp_path / "two.yaml").write_text(TRL)
    assert bare("convert", "one.yml", "-", "--strict").code == 1
    assert bare("convert", "two.yaml", "-", "--strict").code == 0


def test_it_is_printed(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    ran = bare("convert", "train.py", "-", "--gpus", "2")
    assert ran.code == 0 and not (tmp_path / "job.yaml").exists()
    made = parse_yaml(ran.out)
    assert made["resources"] == {"gpus": 2} and made["training"]["global_batch"] == 32


def test_data_sets_of_llamafactory_are_looked_up(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(LLAMAFACTORY)
    ran = bare("convert", "one.yaml", "-")
    assert ran.code == 2 and "# Not a job yet:" in ran.out, "without data"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps({"our_answers": {"hf_hub_url": "a/b"}}))
    assert parse_yaml(bare("convert", "one.yaml", "-").out)["data"]["path"] == "a/b"


def test_json_has_every_key(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(AXOLOTL)
    made = bare("convert", "one.yml", "--json").json
    assert made["tool"] == "axolotl" and made["path"] == "job.yaml" and made["missing"] == []
    assert {one["key"] for one in made["keys"]} == parse_yaml(AXOLOTL).keys()
    assert {one["became"] for one in made["keys"]} == {"mapped", "left", "listed", "empty"}


def test_bad_input(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "no.yml").write_text("a: 1\n")
    ran = bare("convert", "no.yml")
    assert ran.code == 2 and "say --from axolotl, llamafactory or trl" in ran.err
    assert "can't be read" in bare("convert", "none.yml").err
    (tmp_path / "bad.yml").write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in bare("convert", "bad.yml").err
    (tmp_path / "two.yml").write_text(AXOLOTL + "warmup_steps: 9\n")
    ran = bare("convert", "two.yml")
    assert ran.code == 2 and "warmup_steps: stands beside warmup_ratio 0.05" in ran.err
    assert not (tmp_path / "job.yaml").exists()
