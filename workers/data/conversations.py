"""The turns of a conversation: what each must have, whatever the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.data.columns import rename_turns
from workers.input_errors import Bad, type_of

Message = dict[str, Any]

_PARTS = "only text is trained on: use parts {type: text, text: ...}, or plain text"


def check_messages(column: str, messages: Sequence[Any]) -> None:
    """Raises Bad, with the number of the message, where a turn has no role or nothing to say."""
    if not messages:
        raise Bad(f"{column} is an empty list", "give it messages, or remove the row")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            kind = type_of(message)
            raise Bad(f"{column}: message {number} is not an object but {kind}", "give it role and content")
        role = message.get("role")
        if not isinstance(role, str) or not role:
            fix = rename_turns(message) or "such as role: user"
            raise Bad(f"{column}: message {number} is a message without role and content", fix)
        content = message.get("content")
        if type(content) is not str:
            _check_content(f"{column}: message {number} ({role})", message, content)
        elif message.get("tool_calls") is not None:
            _calls(f"{column}: message {number} ({role})", message["tool_calls"])


def text_of(content: Any) -> Any:
    """Content as plain text: that of its parts, joined; what is no list of parts as it is."""
    return "".join(part["text"] for part in content) if isinstance(content, list) else content


def _check_content(where: str, message: Message, content: Any) -> None:
    calls = _calls(where, message.get("tool_calls"))
    if content is None:
        if calls:
            return
        said = "content null" if "content" in message else "no content"
        if message.get("function_call"):
            raise Bad(f"{where} has {said} and a function_call", "write it as tool_calls")
        raise Bad(f"{where} has {said} and no tool_calls", 'give it text, "" for none, or remove the turn')
    if not isinstance(content, list):
        raise Bad(f"{where} has content that is {type_of(content)}", "write it as text, in quotes")
    if not content:
        raise Bad(f"{where} has an empty list as its content", 'give it text, "" for none')
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else None
            raise Bad(f"{where} has a part of type {kind or type_of(part)} in its content", _PARTS)
        if part.get("type", "text") != "text":
            raise Bad(f"{where} has a part of type {part['type']} in its content", _PARTS)


def _calls(where: str, calls: Any) -> Any:
    if calls is None or (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        return calls
    raise Bad(f"{where} has tool_calls that are not a list of objects", "give a list of {function: {...}}")
