"""Writes docs/job-file.md from the job file's schema: `python -m orchestrator.cli.reference [--check]`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

from jobs.jobfile.spec import schema
from orchestrator.cli.commands.planning.init import examples

TARGET = Path(__file__).resolve().parents[2] / "docs" / "job-file.md"

INTRO = """\
# The job file

A job file is YAML: at most 256 KiB, no tags, no aliases. `tuneyard init` writes one to begin from.
`tuneyard submit FILE --dry-run` validates it and reports every fault at once. `tuneyard schema`
prints its JSON schema for editors.

- Only `model` and `data` are required. `model`, `data` and `method` may be a plain string:
  `model: org/name` stands for `model: {path: org/name}`, `method: full` for `method: {kind: full}`.
- Relative paths are read from the job file's folder.
- Sizes and durations have units: `24GiB`, `700MiB`; `90s`, `4h`, `1h30m`.
- A job file with a `matrix` makes a group of jobs, one for each combination of its values. If the
  group has a name, its jobs are called NAME-1, NAME-2 and so on. If `output` is set, their folders
  are 1, 2 and so on in it.
- Flags of `tuneyard submit` change the file's values: `--steps 20`, or any key by
  `--set training.steps=20`. What they contradict in the file is replaced, and named: `--epochs`
  replaces the file's `steps`, `--method full` its LoRA keys, any flag an axis of its `matrix`. Two
  flags that contradict each other are refused.

This page is made from the schema by `python -m orchestrator.cli.reference`.
"""

DATA = """\
### What the rows hold

Only the columns that are trained on are read. The first row decides which: `prompt` and
`completion`, else `messages`, else `text`; [other trainers](trainers.md) read other columns. Every
row then needs them, in the same shape. With conversations, `tools` (a list of JSON schemas) and
`chat_template_kwargs` (an object) are read too, and a row may lack them. Other columns are ignored.
One reader serves the check at submission, the scan on the host and the trainer, so what passes the
scan is what is trained on. The check at submission reads the first 20,000 rows, the scan as many as
it can in a minute, the trainer all of them.

- `.csv`: every value is text exactly as written: `NA`, `null`, `007`, `True`, dates, nothing at
  all. The first line names the columns.
- `.jsonl` and `.json`: strings as they are; a number is its text as written (`1.0`, `1e5`, all
  digits). true, false, null, lists and objects are refused, and so is a column that appears twice
  in a row. A `.json` file is one list of rows, or one row per line.
- `.parquet`, saved data sets, hub ids: columns of strings. Numbers, dates, true and false are
  refused: how they were written is lost, so save them as strings. Null is refused with its row.

Files are UTF-8. Arrow gives each object of a column the keys of all objects, with null where a row
had none. So in Parquet, saved data sets and data sets of the hub, keys that are null are left out.
JSON is read as it is.

A turn of a conversation needs a `role` that the chat template knows and a `content` that is text.
Only beside `tool_calls` may the content be null. Content that is a list of `{type: text}` parts is
passed to a template that takes such lists, and joined for one that doesn't; parts of other types
are refused. Every conversation is rendered with the chat template before a card is assigned. What
the template refuses is reported with file and line.

What the loss covers:

| rows | learned from |
|---|---|
| `text` | the whole text, and the end-of-text token that is put after it |
| `prompt` and `completion` | the completion, with its end-of-text token; with `loss_on: all` the prompt too |
| `messages` | the assistant's turns (`loss_on: assistant`), or every turn, the user's too (`loss_on: all`) |

The assistant's turns are found in one of three ways: by `{% generation %}` in the chat template; by
the training template that TRL has for the model's own template (Llama 3, Qwen 2.5 and 3, Gemma,
Phi-3 and others); or by rendering the conversation turn by turn, if its earlier parts render as the
beginning of the whole. If none of these separates the turns of every row, the loss covers every
turn of all rows, and `plan`, `submit`, `show` and the log say so, with the first such row.
`loss_on: assistant` is then refused. A row whose text keeps its turns from being separated, while
other rows of its kind can be, is refused with its line; `loss_on: all` accepts it. A row that has
nothing to learn from after the cut at `training.sequence_length` is left out, and counted.

TRL's training template may render a conversation differently from the model's own, for example with
a think block (possibly empty) in every turn of the assistant. `loss_on: all` renders with the
model's own template.

These rows are counted, and the first of each kind is named in a warning of `plan`, `show` and the
log:

- text that ends in two end-of-text tokens, because the tokenizer adds one too, or begins with two
  beginning-of-text tokens;
- a system or user turn that the chat template leaves out or changes, or tools that it leaves out;
- a prompt that the chat template renders differently when the completion follows, so that a part of
  it is learned from;
- characters that the tokenizer does not know.

### Before a card is assigned

A host reads the model's folder, the tokenizer and the rows of every job first. What can't be
trained on ends the job as `bad_input`, with file, row and remedy; it is not tried again as it is.
If a host can't check for a reason of its own (no network, no time, a file that is missing there and
not on others), the job does not wait for it: it is planned for the whole
`training.sequence_length`. The same happens after 15 minutes without an answer.

- Weights are refused if they are missing, Git LFS pointers, cut off, without a shard, of other
  sizes than config.json says, or lack tensors (which would begin at random). Most of this is
  reported at submission, if the server sees the folder. Of pickled weights (.bin) only tensors are
  loaded. GGUF, TensorFlow, Flax and ONNX are refused, and so is an index that names files outside
  of the model's folder. Tensors that the model has no place for are left out with a warning in
  `plan`, `submit`, `show` and the log. Among them are further layers, if config.json has fewer than
  the weights.
- Settings: JSON files of the model and tokenizer that are not objects, and values that transformers
  refuses, are reported with their file.
- Quantised models (`quantization_config` in config.json): `method: full` is refused, and `qlora`
  for all but 4 bits of bitsandbytes; `lora` trains adapters beside the weights as they are. Weights
  in 4 bits of bitsandbytes are projected as they lie; others as if they were not quantised, which
  `plan` says. Refused at submission, because no host can train them: kinds that transformers can
  only run (AutoRound, GGUF, NVFP4, Quark and others) or does not know (EXL2), BitNet unless it was
  saved to be trained (`quantization_mode: online`), FP-Quant and Four Over Six without their master
  weights.
- Tokenizers: a folder without a vocabulary, or whose tokenizer can't be built, is refused.
- Libraries: a model or tokenizer that needs a library (optimum and gptqmodel for GPTQ,
  sentencepiece for a tokenizer without tokenizer.json) goes only to hosts that have it. If no host
  has it, the job waits with the reason `library`, which names it. Install it and restart the agent
  of that host.
- Token ids: a tokenizer may have more tokens than the model has rows. A row that uses a token out
  of range is refused, and so is a padding token out of range.
- Rows that are cut or left out: `plan`, `show`, the log and, once counted, `submit` say how many,
  of a sample if the data is large, with a warning above 5% of either. A job is refused if every row
  is left out, or too few are left to hold some out. `data.holdout` is a share of the rows that are
  left, at least one, so it needs two.

### Data that changes

A file that changes while its job waits is read again. Each training checkpoint has the number of
rows and a SHA-256 of their content. When an attempt goes on from a checkpoint and the rows differ,
the log and an event of the job (`tuneyard show`) say so:
`the data changed since step 120: 4,000 rows then, 4,100 now`. It goes on with the new rows, and
keeps the number of steps of the first attempt, also if the job says `epochs`. Only a change of
`steps` or `epochs` themselves makes them counted again.
"""


def reference() -> str:
    """The whole page."""
    made = schema()
    top = made["properties"]
    parts = [INTRO, "## Keys\n", _table(top, made.get("required", []))]
    for name, value in top.items():
        parts += _section(name, value, made["$defs"])
        if name == "data":
            parts.append(DATA)
    parts += [
        "## Examples\n",
        "`tuneyard init --example NAME` writes one of these; `tiny` comes with data and tokenizer.\n",
    ]
    for name, file in examples().items():
        parts.append(f"### {name}\n\n```yaml\n{file.read_text(encoding='utf-8').rstrip()}\n```\n")
    return "\n".join(parts)


def _section(name: str, value: dict[str, Any], sections: dict[str, Any]) -> list[str]:
    """The chapter of a key that has keys of its own, and those of its keys that have; nothing for any other."""
    options = [value, *value.get("anyOf", ())]
    options += [inner for option in options for inner in option.get("items", {}).get("anyOf", ())]
    target = next((option["$ref"] for option in options if "$ref" in option), None)
    if target is None:
        return []
    section = sections[target.rpartition("/")[2]]
    keys = section["anyOf"][0] if "anyOf" in section else section
    about = textwrap.fill(" ".join(section["description"].split()), 100)
    parts = [f"## {name}\n", about + "\n", _table(keys["properties"], keys.get("required", []))]
    for inner, of in keys["properties"].items():
        parts += _section(f"{name}.{inner}", of, sections)
    return parts


def _table(properties: dict[str, Any], required: list[str]) -> str:
    rows = ["| key | value | default | what it is |", "|---|---|---|---|"]
    for name, value in properties.items():
        default = "**required**" if name in required else _default(value)
        what = value.get("description", "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_kind(value)} | {default} | {what} |")
    return "\n".join(rows) + "\n"


def _default(value: dict[str, Any]) -> str:
    given = value.get("default")
    if given in (None, "", []) or isinstance(given, dict):
        return ""
    return f"`{str(given).lower() if isinstance(given, bool) else given}`"


def _kind(value: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if "$ref" in value:
        return "see below"
    if "anyOf" in value:
        kinds = [_kind(option) for option in value["anyOf"] if option.get("type") != "null"]
        return ", or ".join(dict.fromkeys(kinds))
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "examples" in value:
        return f"text such as `{value['examples'][0]}`"
    kind = value.get("type")
    if kind == "object" and len(value.get("properties", {})) > 1:
        return f"mapping of {', '.join(f'`{key}`' for key in value['properties'])}"
    if kind == "object":
        inner = [f"`{{{key}: k}}` with k a {_kind(of)}" for key, of in value.get("properties", {}).items()]
        return ", ".join(inner) or "mapping"
    if kind == "array":
        return f"list of {_kind(value['items'])}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    return words.get(str(kind), "anything") + _bounds(value)


def _bounds(value: dict[str, Any]) -> str:
    bounds = []
    for key, word in (
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "to"),
        ("exclusiveMaximum", "below"),
    ):
        if key in value:
            bounds.append(f"{word} {value[key]:,}")
    return f" {' '.join(bounds)}" if bounds else ""


def main() -> int:
    """Write the page; with --check, say whether it is up to date."""
    text = reference()
    if sys.argv[1:] == ["--check"]:
        fresh = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        print(f"{TARGET} is {'up to date' if fresh else 'stale: run python -m orchestrator.cli.reference'}")
        return 0 if fresh else 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
