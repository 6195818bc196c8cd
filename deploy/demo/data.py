"""The demo's input, made on the spot: questions and answers from docstrings, and a tokenizer for them.

Source files are parsed, never imported, so nothing of what they would do on import happens. The same Python
gives the same files, byte for byte.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Tests, vendored copies and programs with a window: no documentation of a library in them.
SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo", "ensurepip", "pydoc_data"}
    | {"antigravity", "this", "site-packages", "dist-packages", "lib-dynload", "distutils"}
)
SHORTEST_DOCSTRING = 30  # characters; below that it mostly repeats the name
VOCABULARY = 1024
END, PAD, BEGIN_TURN, END_TURN = "<|end|>", "<|pad|>", "<|turn|>", "<|/turn|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    f"{BEGIN_TURN}{{{{ m['role'] }}}}\n{{{{ m['content'] }}}}{END_TURN}\n"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{BEGIN_TURN}assistant\n{{% endif %}}"
)
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Input:
    """Where the demo's input is, and how many pairs it holds."""

    pairs: Path
    tokenizer: Path
    count: int


def prepare(folder: Path) -> Input:
    """The demo's input in `folder`; made again when Python or this file has changed since, else as it is.

    The folder is published by one rename, so that an interrupted run leaves nothing half made.
    """
    facts = _facts(folder)
    if facts.get("fingerprint") != fingerprint():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".input-") as scratch:
            whole = Path(scratch) / "input"
            write_input(whole)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(whole, folder)
        facts = _facts(folder)
    return Input(folder / "pairs.jsonl", folder / "tokenizer", facts["pairs"])


def write_input(folder: Path) -> None:
    """Writes pairs.jsonl, tokenizer/ and input.json into a new folder."""
    folder.mkdir(parents=True)
    found = list(pairs(Path(sysconfig.get_paths()["stdlib"])))
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(pair, ensure_ascii=False) + "\n" for pair in found)
    texts = (pair["prompt"] + pair["completion"] for pair in found)
    train_tokenizer(texts).save_pretrained(folder / "tokenizer")
    facts = {"fingerprint": fingerprint(), "pairs": len(found)}
    (folder / "input.json").write_text(json.dumps(facts))


def pairs(library: Path) -> Iterator[dict[str, str]]:
    """{prompt, completion} for every public class, function and method below `library` that has a docstring.

    Ordered by module and position. Files that can't be parsed (it keeps some on purpose) are left out.
    """
    seen: set[str] = set()
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if any(part in SKIPPED or part.startswith("_") for part in parts if part != "__init__"):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for name, node in _documented(tree, module):
            text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
            prompt = f"What does {name} do?\nSignature: {_signature(name, node)}\n"
            if len(text) >= SHORTEST_DOCSTRING and prompt not in seen:
                seen.add(prompt)
                yield {"prompt": prompt, "completion": text}


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of VOCABULARY tokens: any text goes in and comes back as it was."""
    # Here: they take a second, and every demo but the first finds its input made.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD, BEGIN_TURN, END_TURN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _documented(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Documented]]:
    for node in tree.body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            name = f"{prefix}.{node.name}"
            if ast.get_docstring(node, clean=False):
                yield name, node
            if isinstance(node, ast.ClassDef):
                yield from _documented(node, name)


def _signature(name: str, node: Documented) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})" if bases else f"class {name}"
    return f"{name}({ast.unparse(node.args)})"


def fingerprint() -> str:
    """Changes when the input would."""
    source = Path(__file__).read_bytes() + sys.version.encode()
    return hashlib.sha256(source).hexdigest()


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / "input.json").read_text())
    except (OSError, ValueError):
        return {}
    return facts
