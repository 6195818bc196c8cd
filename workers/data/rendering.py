"""Conversations as the chat template writes them, and which of their characters the assistant wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError, UndefinedError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from workers.data.conversations import Message, text_of
from workers.input_errors import Bad

Span = tuple[int, int]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What a template may do wrong with a row it was not written for.
_TEMPLATE_FAULTS = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_SAID = ("Ping one?", "Pong one.", "Ping two?", "Pong two.")
_THOUGHT = "<think>\nhm\n</think>\n\n"
_NO_MARKERS = "the chat template has no {% generation %} markers"
_MARK_IT = "set data.loss_on: all, or put {% generation %} around the assistant's turn in the chat template"


class Unmarkable(Exception):
    """The chat template can't tell the assistant's turns of such a row, whatever they say; nobody asked for it."""

    def __init__(self, problem: str, where: str = "") -> None:
        self.problem = problem
        super().__init__(f"{_NO_MARKERS}, and in {where} {problem}")


@dataclass(frozen=True)
class Marking:
    """How the assistant's turns are told apart.

    template: the one to render with, where it is not the tokenizer's own. by: "markers" of the template, or "prefixes":
    an earlier part of a conversation renders as the beginning of the whole. None: neither, and why.
    """

    by: str | None
    template: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text. learned: characters (from, to) of the assistant's turns; None where nobody asked."""

    text: str
    learned: tuple[Span, ...] | None = None


class Renderer:
    """Renders conversations with a tokenizer's chat template.

    loss_on: of the job file. assistant_only: whether only the assistant's turns are learned from (`messages` alone:
    of a prompt and its completion it is the completion). every_turn: why every turn is learned from, where a row has
    shown that the template can't mark the assistant's; only where loss_on is left out.
    Raises Bad for a tokenizer that has no chat template, or one that can't mark what loss_on asks for.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        kind: Sequence[str],
        loss_on: str | None,
        every_turn: str = "",
    ) -> None:
        if not tokenizer.chat_template:
            raise Bad(
                "the rows are conversations, but the tokenizer has no chat_template",
                "add one to the tokenizer, or give prompt and completion as text, or text",
            )
        self._tokenizer = tokenizer
        self._template: str | None = None
        self.marking = Marking(None, why=every_turn)
        self._asked = loss_on is not None
        if every_turn:
            pass
        elif tuple(kind) == ("messages",) and loss_on != "all":
            self.marking = marking_of(tokenizer)
            if self.marking.by is None and loss_on == "assistant":
                raise Bad(f"data.loss_on is assistant, but {self.marking.why}", _MARK_IT)
            self._template = self.marking.template
        self.assistant_only = self.marking.by is not None
        self._parts = _takes_parts(self)
        self._known = _ROLES | set(re.findall(r"""["'](\w+)["']""", self._source()))
        self._stop = re.compile(_alternatives(tokenizer) + r"(\s+)\Z")
        self._ended = re.compile(_alternatives(tokenizer) + r"\s*\Z")

    def render(self, row: dict[str, Any]) -> Rendered:
        """Of a row with messages, or with prompt and completion.

        Raises Bad with what the template says, Unmarkable where loss_on is left out and the template can't mark turns
        such as these.
        """
        messages = _messages(row)
        self._check(messages)
        if not self.assistant_only:
            return Rendered(self._text(messages, row))
        if self.marking.by == "markers":
            text, spans = self._render(messages, row, marked=True)
            return Rendered(text, tuple((start, end) for start, end in spans if end > start))
        text = self._text(messages, row)
        try:
            return Rendered(text, self._spans(messages, row, text))
        except Bad as bad:
            if self._asked or not self._fails_on_such(messages, row):
                raise
            raise Unmarkable(bad.problem) from None

    def leaves_the_end_out(self) -> bool:
        """Whether the markers end before the token that ends a turn, so that the model would not learn to stop."""
        if self.marking.by != "markers":
            return False
        trial = [
            {"role": role, "content": said}
            for role, said in zip(("user", "assistant") * 2, _SAID, strict=True)
        ]
        try:
            # What follows the turn shows to whom the template gives its end.
            text, spans = self._render(trial[:3], {}, marked=True)
        except Bad:
            return False
        return bool(spans) and not self._ended.search(text[spans[0][0] : spans[0][1]])

    def prompt(self, row: dict[str, Any]) -> str:
        """The prompt alone, up to where the model takes over."""
        return self._text(row["prompt"], row, add_generation_prompt=True)

    def changes_prompt(self, row: dict[str, Any], text: str, prompt: str) -> bool:
        """Whether the prompt does not stand at the beginning of the text, be it without a generation prompt."""
        if text.startswith(prompt):
            return False
        return not text.startswith(self._text(row["prompt"], row))

    def unsaid(self, row: dict[str, Any], text: str) -> str:
        """The first turn of a system or a user that does not stand in the text as it is written; empty: all do."""
        for number, message in enumerate(_messages(row), 1):
            if message["role"] not in ("system", "developer", "user"):
                continue
            content = message.get("content")
            said = [part["text"] for part in content] if isinstance(content, list) else [content or ""]
            if any(one.strip() not in text for one in said):
                return f"message {number} ({message['role']})"
        return ""

    def ignores_tools(self, row: dict[str, Any]) -> bool:
        """Whether the row brings tools that the template has no place for."""
        return bool(row.get("tools")) and "tools" not in self._source()

    def _source(self) -> str:
        given = self._template or self._tokenizer.chat_template
        return "".join(given.values()) if isinstance(given, dict) else str(given)

    def _check(self, messages: Sequence[Message]) -> None:
        for number, message in enumerate(messages, 1):
            role = message["role"]
            if role not in self._known:
                close = next((one for one in _ROLES if one == role.lower()), None)
                common = {"human": "user", "gpt": "assistant", "bot": "assistant", "ai": "assistant"}
                close = close or common.get(role.lower())
                fix = f"write {close}" if close else "use system, user, assistant or tool"
                raise Bad(f"message {number} has role {role}, which the chat template does not know", fix)
            if message.get("tool_calls") and "tool_calls" not in self._source():
                problem = f"message {number} has tool_calls, which the chat template leaves out"
                raise Bad(problem, "use a chat template that renders them, or write them as content")

    def _text(self, messages: Sequence[Message], row: dict[str, Any], **options: Any) -> str:
        return self._render(messages, row, **options)[0]

    def _render(
        self,
        messages: Sequence[Message],
        row: dict[str, Any],
        add_generation_prompt: bool = False,
        marked: bool = False,
    ) -> tuple[str, Sequence[Span]]:
        """As PreTrainedTokenizerBase.apply_chat_template of transformers 5.23 does it, without its tokens."""
        tools = row.get("tools")
        extra = row.get("chat_template_kwargs") or {}
        try:
            texts, spans = render_jinja_template(
                conversations=[[self._plain(message) for message in messages]],
                tools=tools,
                chat_template=self._tokenizer.get_chat_template(self._template, tools),
                return_assistant_tokens_mask=marked,
                add_generation_prompt=add_generation_prompt,
                **{**self._tokenizer.special_tokens_map, **extra},
            )
        except UndefinedError as error:
            raise Bad(
                f"the chat template fails on it: {error}", "give the row what the template asks for"
            ) from None
        except TemplateError as error:
            raise Bad(f"the chat template refuses it: {error}", "change the row, or the template") from None
        except _TEMPLATE_FAULTS as error:
            said = f"{type(error).__name__}: {error}"
            raise Bad(f"the chat template fails on it: {said}", "change the row, or the template") from None
        return texts[0], spans[0] if marked else ()

    def _plain(self, message: Message) -> Message:
        """A message without keys that are null, its parts of text joined where the template takes only text."""
        made = {key: value for key, value in message.items() if value is not None}
        if isinstance(made.get("content"), list) and not self._parts:
            made["content"] = text_of(made["content"])
        return made

    def _spans(self, messages: Sequence[Message], row: dict[str, Any], text: str) -> tuple[Span, ...]:
        """Of each of the assistant's turns. Raises Bad for one whose beginning and end the prefixes don't show."""
        spans = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            try:
                upto = self._text(messages[: number + 1], row)
                if not text.startswith(upto):
                    raise Bad("the chat template renders what is up to there differently when turns follow")
                start = self._start(messages, number, row, upto)
            except Bad as bad:
                raise _unmarked(number, bad.problem) from None
            # White space after the token that ends a turn is the template's, not the model's.
            ended = self._stop.search(upto)
            spans.append((start, len(upto) - (len(ended[1]) if ended else 0)))
        return tuple((start, end) for start, end in spans if end > start)

    def _start(self, messages: Sequence[Message], number: int, row: dict[str, Any], upto: str) -> int:
        """Where in `upto`, which ends with it, a turn of the assistant begins: where the model takes over.

        Nothing is taken over before a user has spoken. Such a turn is held against the same one after a question: it
        ends in the same words, behind the same generation prompt.
        """
        before = messages[:number]
        if any(message["role"] == "user" for message in before):
            asked = self._text(before, row, add_generation_prompt=True)
            if upto.startswith(asked):
                return len(asked)
            if upto.startswith(self._text(before, row)):
                raise Bad("the turn does not begin with the chat template's generation prompt")
            raise Bad("the chat template renders the turns before it differently when it follows")
        question = [*before, {"role": "user", "content": _SAID[0]}]
        plain = self._text(question, row)
        asked = self._text(question, row, add_generation_prompt=True)
        whole = self._text([*question, messages[number]], row)
        if asked.startswith(plain) and whole.startswith(asked) and upto.endswith(whole[len(plain) :]):
            return len(upto) - (len(whole) - len(asked))
        raise Bad("no user speaks before it, and the chat template renders it differently after a question")

    def _fails_on_such(self, messages: Sequence[Message], row: dict[str, Any]) -> bool:
        """Whether turns of the same roles can't be marked with other words either: then it is not for what they say."""
        said = {"user": _SAID[0], "assistant": _SAID[1]}
        trial = [
            {**message, "content": said.get(message["role"], "Count.")} if message.get("content") else message
            for message in messages
        ]
        try:
            text = self._text(trial, row)
        except Bad:
            return False
        try:
            self._spans(trial, row, text)
        except Bad:
            return True
        return False


def marking_of(tokenizer: PreTrainedTokenizerBase) -> Marking:
    """How the tokenizer's chat template marks what the assistant says: by its own markers, by those of the training
    template that TRL has for it, or by prefixes, where a trial conversation shows that these tell exactly.
    """
    given = tokenizer.chat_template
    variants = list(given.values()) if isinstance(given, dict) else [given]
    if not tokenizer.is_fast:
        return Marking(None, why="the tokenizer can't tell which token stands for which characters")
    if all(_GENERATION.search(one) for one in variants):
        return Marking("markers")
    # Here: TRL costs a scan seconds, and most of what it reads is no conversation.
    from trl.chat_template_utils import get_training_chat_template

    try:
        if (patched := get_training_chat_template(tokenizer)) is not None:
            return Marking("markers", patched)
    except (*_TEMPLATE_FAULTS, Bad):
        pass  # not one that TRL knows
    for thought in ("", _THOUGHT):
        if why := _prefixes_fail(tokenizer, thought):
            return Marking(None, why=why)
    return Marking("prefixes")


def _prefixes_fail(tokenizer: PreTrainedTokenizerBase, thought: str) -> str:
    """Why the prefixes of a trial conversation don't tell the assistant's turns; empty where they do."""
    trial = Renderer(tokenizer, ("messages",), "all")
    roles = ("user", "assistant") * 2
    messages = [
        {"role": role, "content": (thought if role == "assistant" else "") + said}
        for role, said in zip(roles, _SAID, strict=True)
    ]
    try:
        text = trial.render({"messages": messages}).text
        spans = trial._spans(messages, {}, text)
    except Bad as bad:
        return (
            f"{_NO_MARKERS}, and {bad.problem.partition(': ')[2] or bad.problem}"  # without the trial's place
        )
    found = [text[start:end] for start, end in spans]
    if len(found) == 2 and _SAID[1] in found[0] and _SAID[3] in found[1] and "Ping" not in "".join(found):
        return ""
    return f"{_NO_MARKERS}, and its turns can't be told apart"


def _messages(row: dict[str, Any]) -> Sequence[Message]:
    return row["messages"] if "messages" in row else [*row["prompt"], *row["completion"]]


def _takes_parts(renderer: Renderer) -> bool:
    """Whether the template takes content as a list of parts, and writes their text as it writes text."""
    texts = []
    for content in ("Ping one?", [{"type": "text", "text": "Ping one?"}]):
        renderer._parts = True
        try:
            texts.append(renderer._text([{"role": "user", "content": content}], {}))
        except Bad:
            return False
    return texts[0] == texts[1]


def _alternatives(tokenizer: PreTrainedTokenizerBase) -> str:
    added = sorted(map(str, tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    return f"(?:{'|'.join(map(re.escape, added))})" if added else r"(?!)"


def _unmarked(number: int, why: str) -> Bad:
    return Bad(f"the assistant's words in message {number + 1} can't be told apart: {why}", _MARK_IT)
