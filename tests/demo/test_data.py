"""The demo's input: instruction pairs from real sources, and a tokenizer trained on them."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from deploy.demo import data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> data.Input:
    return data.prepare(tmp_path_factory.mktemp("demo") / "input")


@pytest.fixture(scope="module")
def rows(made: data.Input) -> list[dict[str, str]]:
    return [json.loads(line) for line in made.pairs.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer(made: data.Input) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(made.tokenizer)


def library(folder: Path, files: dict[str, str]) -> list[dict[str, str]]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(data.pairs(folder))


DOCUMENTED = 'def dump(value, *, indent=None):\n    """Write a value as JSON text, indented if asked."""\n'


def test_a_pair_asks_by_name_and_signature_and_answers_with_the_docstring(tmp_path: Path) -> None:
    assert library(tmp_path, {"json/encoder.py": DOCUMENTED}) == [
        {
            "prompt": "What does json.encoder.dump do?\n"
            "Signature: json.encoder.dump(value, *, indent=None)\n",
            "completion": "Write a value as JSON text, indented if asked.",
        }
    ]


def test_methods_and_classes_are_pairs_too(tmp_path: Path) -> None:
    text = (
        'class Reader(Base):\n    """Reads records from a file, one at a time."""\n'
        '    def next(self):\n        """The next record, or None at the end of the file."""\n'
    )
    prompts = [pair["prompt"] for pair in library(tmp_path, {"records/__init__.py": text})]
    assert prompts == [
        "What does records.Reader do?\nSignature: class records.Reader(Base)\n",
        "What does records.Reader.next do?\nSignature: records.Reader.next(self)\n",
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"_private.py": DOCUMENTED},
        {"test/support.py": DOCUMENTED},
        {"site-packages/other.py": DOCUMENTED},
        {"broken.py": "def f(:\n" + DOCUMENTED},
        {"hidden.py": DOCUMENTED.replace("dump", "_dump")},
        {"short.py": 'def f():\n    """Do it."""\n'},
    ],
    ids=lambda files: next(iter(files)),
)
def test_what_is_no_documentation_of_a_library_is_left_out(files: dict[str, str], tmp_path: Path) -> None:
    assert library(tmp_path, files) == []


def test_nothing_is_imported(tmp_path: Path) -> None:
    files = {"module.py": f"raise SystemExit('imported')\n{DOCUMENTED}"}
    assert len(library(tmp_path, files)) == 1


def test_this_pythons_library_gives_thousands_of_pairs(made: data.Input, rows: list[dict[str, str]]) -> None:
    assert len(rows) == made.count > 2000
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert any(row["prompt"].startswith("What does json.dumps do?") for row in rows)
    assert not any("idlelib" in row["prompt"] or "antigravity" in row["prompt"] for row in rows)


def test_the_pairs_are_the_same_every_time(rows: list[dict[str, str]]) -> None:
    assert list(data.pairs(Path(sysconfig.get_paths()["stdlib"]))) == rows


def test_text_comes_back_from_its_tokens_as_it_was(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, str]]
) -> None:
    texts = [row["completion"] for row in rows[::200]] + ["tabs\t, naïve café, 你好, 🚆\r\n"]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_tokenizer_fits_the_models_of_the_job_files(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(tokenizer) == data.VOCABULARY == 1024
    assert (tokenizer.eos_token, tokenizer.pad_token) == (data.END, data.PAD)
    words = tokenizer("def return True", add_special_tokens=False)["input_ids"]
    assert len(words) < len("def return True") / 3  # it has learnt words, not only bytes


def test_the_chat_template_names_the_speakers(tokenizer: PreTrainedTokenizerBase) -> None:
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert asked == "<|turn|>user\nhi<|/turn|>\n<|turn|>assistant\n"


def test_input_that_is_there_is_used_again(made: data.Input) -> None:
    before = made.pairs.stat()
    assert data.prepare(made.pairs.parent) == made
    assert made.pairs.stat().st_ino == before.st_ino


def test_input_of_another_python_is_made_anew(made: data.Input, tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "input.json").write_text('{"fingerprint": "of another", "pairs": 1}')
    (folder / "leftover").touch()
    assert data.prepare(folder).count == made.count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input"]
    assert not (folder / "leftover").exists()
