"""A Python script with TRL: what its calls say literally, read from its syntax. Nothing of it is run.

What is computed, comes from the command line, or stands in a name that is assigned twice can't be read, and is listed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from jobs.convert.draft import Draft, short
from jobs.convert.formats import trl
from jobs.errors import Fault, SpecError

CONFIGS = {"SFTConfig": "sft", "DPOConfig": "dpo", "KTOConfig": "kto", "RewardConfig": "reward"}
_OTHER_CONFIGS = (
    *("TrainingArguments", "GRPOConfig", "RLOOConfig"),
    *("DistillationConfig", "ORPOConfig", "CPOConfig", "PPOConfig", "GKDConfig"),
)
_LORA = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "use_dora": "use_dora",
    "use_rslora": "use_rslora",
    "task_type": "lora_task_type",
    "bias": "lora_bias",
    "init_lora_weights": "lora_init",
    "rank_pattern": "lora_rank_pattern",
    "alpha_pattern": "lora_alpha_pattern",
    "exclude_modules": "lora_exclude_modules",
    "ensure_weight_tying": "lora_ensure_weight_tying",
}
_PACKED = {
    "load_in_4bit": "load_in_4bit",
    "load_in_8bit": "load_in_8bit",
    "bnb_4bit_quant_type": "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant": "use_bnb_nested_quant",
    "bnb_4bit_compute_dtype": "bnb_4bit_compute_dtype",
    "bnb_4bit_quant_storage": "bnb_4bit_quant_storage",
}
_MODEL = {
    "revision": "model_revision",
    "torch_dtype": "dtype",
    "pretrained_model_name_or_path": "model_name_or_path",
    "model_name": "model_name_or_path",  # of Unsloth, as the next
    "max_seq_length": "max_length",
}
# Handed over between calls: read where they are made.
_PASSED = frozenset(
    {"quantization_config", "args", "peft_config", "train_dataset", "processing_class", "model", "tokenizer"}
)
_BY_CODE = "is code of the script's own, which a job does not run"
_COMPUTED = "is computed, or not assigned once: it can't be read"


@dataclass
class Found:
    """trainer: whose configuration is made;
    values: keys of TRL's files, as literals; unread: what can't be read, with its source; code: rows that code
    changes."""

    trainer: str = "sft"
    values: dict[str, Any] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)
    code: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def put(self, key: str, node: ast.expr, names: dict[str, ast.expr]) -> None:
        try:
            self.values[key] = _literal(node, names)
        except ValueError:
            self.unread.append((key, ast.unparse(node)))


def read(text: str, source: str) -> Found:
    """What the script says. Raises SpecError where it is no Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"line {line}" if line else "file"
        raise SpecError([Fault(where, "", f"not readable as Python: {error}")], source) from None
    names, found = _assigned(tree), Found()
    calls: dict[str, list[ast.Call]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            calls.setdefault(_called(node), []).append(node)
    _configs(calls, names, found)
    _adapters(calls, names, found)
    _models(calls, names, found)
    _rows(calls, names, found)
    return found


def convert(draft: Draft, found: Found) -> None:
    """The draft of what was found."""
    draft.faults.extend(found.faults)
    for key, written in found.unread:
        draft.also(key, written, _COMPUTED)
    for key, written in found.code:
        draft.also(key, written, _BY_CODE)
    trl.convert(draft, "script", found.trainer)


def _configs(calls: dict[str, list[ast.Call]], names: dict[str, ast.expr], found: Found) -> None:
    fix = "write the job file's trainer and its section by hand"
    for name in _OTHER_CONFIGS:
        if name in calls:
            line, problem = f"line {calls[name][0].lineno}", f"is not carried over; {', '.join(CONFIGS)} are"
            found.faults.append(Fault(name, line, problem, fix))
            return
    made = [name for name in CONFIGS if name in calls]
    if len(made) != 1:
        problem = "are made beside one another" if made else "are nowhere made in this script"
        found.faults.append(
            Fault(", ".join(made or CONFIGS), "", problem, "convert reads scripts that make one")
        )
        return
    call = _only(calls, made[0], found)
    if call is None:
        return
    found.trainer = CONFIGS[made[0]]
    for keyword in _keywords(call, made[0], found):
        if keyword.arg == "model_init_kwargs" and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant):
                    _of_model(str(key.value), value, names, found)
            continue
        found.put(str(keyword.arg), keyword.value, names)
    if call.args:
        found.put("output_dir", call.args[0], names)


def _adapters(calls: dict[str, list[ast.Call]], names: dict[str, ast.expr], found: Found) -> None:
    if (call := _only(calls, "LoraConfig", found)) is not None:
        found.values["use_peft"] = True
        for keyword in _keywords(call, "LoraConfig", found):
            found.put(_LORA.get(str(keyword.arg), f"LoraConfig.{keyword.arg}"), keyword.value, names)
    for call in calls.get("get_peft_model", []):
        if _owner(call).startswith("Fast"):  # Unsloth's; PEFT's takes a LoraConfig
            found.values["use_peft"] = True
            for keyword in _keywords(call, "get_peft_model", found):
                name = str(keyword.arg)
                if name not in _PASSED:
                    found.put(_LORA.get(name, f"get_peft_model.{name}"), keyword.value, names)
    if (call := _only(calls, "BitsAndBytesConfig", found)) is not None:
        for keyword in _keywords(call, "BitsAndBytesConfig", found):
            found.put(
                _PACKED.get(str(keyword.arg), f"BitsAndBytesConfig.{keyword.arg}"), keyword.value, names
            )


def _models(calls: dict[str, list[ast.Call]], names: dict[str, ast.expr], found: Found) -> None:
    loads = calls.get("from_pretrained", [])
    classes = ("AutoModel", "Fast")
    models = [
        call for call in loads if _owner(call).startswith(classes) or _owner(call).endswith("ForCausalLM")
    ]
    if any(_owner(call).startswith("Fast") for call in models):
        found.values["use_unsloth"] = True
    tokenizers = [call for call in loads if "Tokenizer" in _owner(call) or "Processor" in _owner(call)]
    if len(models) > 1:
        lines = ", ".join(str(call.lineno) for call in models)
        found.faults.append(
            Fault("from_pretrained", f"lines {lines}", "loads several models", "leave the trained one")
        )
        return
    for call in models:
        if call.args:
            found.put("model_name_or_path", call.args[0], names)
        for keyword in _keywords(call, "from_pretrained", found):
            _of_model(str(keyword.arg), keyword.value, names, found)
    if not models:
        for call in _trainers(calls):
            given = next(
                (one.value for one in call.keywords if one.arg == "model"),
                call.args[0] if call.args else None,
            )
            if given is not None:
                found.put("model_name_or_path", given, names)
    for call in tokenizers[:1]:
        if call.args:
            found.put("tokenizer_name", call.args[0], names)
    if found.values.get("tokenizer_name") == found.values.get("model_name_or_path"):
        found.values.pop("tokenizer_name", None)


def _of_model(name: str, node: ast.expr, names: dict[str, ast.expr], found: Found) -> None:
    if name not in _PASSED:
        found.put(_MODEL.get(name, name), node, names)


def _rows(calls: dict[str, list[ast.Call]], names: dict[str, ast.expr], found: Found) -> None:
    loads = calls.get("load_dataset", [])
    if len(loads) > 1:
        lines = ", ".join(str(call.lineno) for call in loads)
        found.unread.append(("dataset_name", f"load_dataset in lines {lines}"))
    for call in loads[:1] if len(loads) == 1 else []:
        for key, node in zip(("dataset_name", "dataset_config"), call.args, strict=False):
            found.put(key, node, names)
        for keyword in _keywords(call, "load_dataset", found):
            known = {"path": "dataset_name", "name": "dataset_config", "split": "dataset_train_split"}
            found.put(known.get(str(keyword.arg), f"load_dataset.{keyword.arg}"), keyword.value, names)
        if found.values.get("dataset_name") in ("json", "csv", "parquet") and (
            isinstance(files := found.values.pop("load_dataset.data_files", None), str)
        ):
            found.values["dataset_name"] = files
    for name in ("map", "filter", "train_test_split", "select"):
        for call in calls.get(name, []):
            if isinstance(call.func, ast.Attribute):
                found.code.append((f".{name}()", f"line {call.lineno}: {ast.unparse(call)}"))
    for call in _trainers(calls):
        for keyword in _keywords(call, _called(call), found):
            if keyword.arg not in (*_PASSED, "eval_dataset"):
                found.code.append((f"{_called(call)}.{keyword.arg}", ast.unparse(keyword.value)))


def _trainers(calls: dict[str, list[ast.Call]]) -> list[ast.Call]:
    return [call for name in CONFIGS for call in calls.get(name.replace("Config", "Trainer"), [])]


def _keywords(call: ast.Call, name: str, found: Found) -> list[ast.keyword]:
    """Those with a name; `**more` can't be read."""
    for keyword in call.keywords:
        if keyword.arg is None:
            found.unread.append((f"{name}(**)", ast.unparse(keyword.value)))
    return [keyword for keyword in call.keywords if keyword.arg is not None]


def _only(calls: dict[str, list[ast.Call]], name: str, found: Found) -> ast.Call | None:
    made = calls.get(name, [])
    if len(made) > 1:
        lines = ", ".join(str(call.lineno) for call in made)
        found.faults.append(
            Fault(name, f"lines {lines}", "is made several times", "leave the one that is meant")
        )
        return None
    return made[0] if made else None


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _owner(call: ast.Call) -> str:
    """The class before `.from_pretrained`."""
    return short(ast.unparse(call.func.value)) if isinstance(call.func, ast.Attribute) else ""


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """Names that are assigned once in the whole script, and to what."""
    made: dict[str, ast.expr] = {}
    twice: set[str] = set()
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
            targets, value = [node.target], node.value
        elif isinstance(node, (ast.For, ast.comprehension)):
            targets = [node.target]
        elif isinstance(node, ast.arg):
            twice.add(node.arg)
        for name in (one for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)):
            plain = isinstance(node, (ast.Assign, ast.AnnAssign)) and name in targets
            if name.id in made or value is None or not plain:
                twice.add(name.id)
            else:
                made[name.id] = value
    return {name: value for name, value in made.items() if name not in twice}


def _literal(node: ast.expr, names: dict[str, ast.expr], depth: int = 0) -> Any:
    """The value of a literal, of a name that stands for one, or of torch.bfloat16 and the like. Raises ValueError."""
    if isinstance(node, ast.Name) and node.id in names and depth < 8:
        return _literal(names[node.id], names, depth + 1)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
        return node.attr
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [_literal(one, names, depth) for one in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        raise ValueError from None
