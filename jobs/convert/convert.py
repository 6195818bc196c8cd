"""convert(): a configuration of another tool -> a job file's mapping, and what became of each of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.convert.draft import Draft, Entry
from jobs.convert.formats import axolotl, llamafactory, script, trl
from jobs.errors import Fault, SpecError, UsageError
from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.spec import parse_spec

NAMES = {"axolotl": "axolotl", "llamafactory": "LLaMA-Factory", "trl": "TRL", "script": "a script"}
# Keys that only one of them has.
_MARKS = {
    "axolotl": ("base_model", "sequence_len", "micro_batch_size"),
    "llamafactory": ("finetuning_type", "cutoff_len", "stage", "template", "lora_rank", "lora_target"),
    "trl": ("dataset_name", "use_peft", "max_length", "dataset_train_split"),
}


@dataclass(frozen=True)
class Conversion:
    """job: a job file's mapping; entries: every key of the source, once or more; defaults: what the tool does where
    nothing is said, and now stands in the job file; missing: what keeps it from being a job yet."""

    tool: str
    job: dict[str, Any]
    entries: tuple[Entry, ...]
    defaults: tuple[str, ...]
    missing: tuple[Fault, ...]

    def of(self, what: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.what == what]


def convert(
    text: str,
    source: str,
    tool: str | None = None,
    gpus: int = 1,
    dataset_info: Mapping[str, Any] | None = None,
    trainer: str = "sft",
) -> Conversion:
    """tool: one of NAMES, None: told by the file. trainer: of a file of TRL, which does not say it.
    gpus: it runs on, which the file does not say. dataset_info: of
    LLaMA-Factory, where it is there. Raises SpecError for keys with two meanings and for what is no training, and
    UsageError where the tool can't be told."""
    if tool == "script" or (tool is None and source.endswith(".py")):
        found = script.read(text, source)
        draft = Draft(found.values, gpus)
        script.convert(draft, found)
        tool = "script"
    else:
        values = parse_yaml(text, source, what="a configuration", empty="it has keys, as `key: value`")
        tool = tool or _told(values, source)
        draft = Draft(values, gpus)
        if tool == "axolotl":
            axolotl.convert(draft)
        elif tool == "llamafactory":
            llamafactory.convert(draft, dataset_info)
        else:
            trl.convert(draft, trainer=trainer)
    if draft.faults:
        raise SpecError(draft.faults, source)
    if gpus > 1:
        draft.put("resources.gpus", gpus)
    return Conversion(
        tool, draft.job, tuple(draft.entries), tuple(draft.defaults), tuple(_missing(draft.job))
    )


def _told(values: Mapping[str, Any], source: str) -> str:
    counts = {tool: sum(mark in values for mark in marks) for tool, marks in _MARKS.items()}
    best = max(counts, key=counts.__getitem__)
    if not counts[best] or [*counts.values()].count(counts[best]) > 1:
        raise UsageError(
            f"{source} could be of more than one tool, or of none: say --from axolotl, llamafactory or trl"
        )
    return best


def _missing(job: Mapping[str, Any]) -> list[Fault]:
    # The text of a chat template comes into a job with its submission: here it is the name of a file.
    model = {name: value for name, value in job.get("model", {}).items() if name != "chat_template"}
    try:
        parse_spec({**job, "model": model})
    except SpecError as error:
        return error.faults
    return []
