"""The dialogs of `tuneyard top`: a question with an answer, and the help."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from orchestrator.cli.render.table import clean

_CSS = """
{name} {{ align: center middle; }}
{name} > Vertical {{ width: auto; max-width: 90%; min-width: 40; height: auto; border: round $primary;
    padding: 0 1; background: $surface; }}
{name} Static {{ width: auto; max-width: 100%; }}
"""


class Confirm(ModalScreen[bool]):
    """A question: y is yes, all else is no."""

    DEFAULT_CSS = _CSS.format(name="Confirm")
    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "dismiss(True)", "yes"),
        ("n,escape,q,enter", "dismiss(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = clean(question, lines=True)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._question, markup=False)
            yield Static("y yes   n no", markup=False)


class AskText(ModalScreen[str | None]):
    """A question with a line of text as its answer; None: it was called off."""

    DEFAULT_CSS = _CSS.format(name="AskText") + "AskText Input { width: 60; max-width: 100%; }"
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "no")]

    def __init__(self, question: str, needed: bool, hint: str = "") -> None:
        super().__init__()
        self._question, self._needed, self._hint = clean(question, lines=True), needed, hint

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._question, markup=False)
            yield Input(placeholder=self._hint, max_length=200)
            yield Static("Enter goes on   Esc calls it off", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        said = event.value.strip()
        if said or not self._needed:
            self.dismiss(said)


HELP = """\
arrows, PgUp, PgDn, Home, End   move
Tab     cards or queue            /  filter
Enter   open the job              s  sort by the next column
c       cancel the job            S  the other way round
d       drain the host, or        q  leave
        give it work again        ?  this

● busy   ○ free   ◐ held but idle
✖ faulty   ? host is away   – takes no work
████┃···  memory in use; ┃ is the projected peak
"""


class Help(ModalScreen[None]):
    """The keys and the signs."""

    DEFAULT_CSS = _CSS.format(name="Help")
    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,question_mark,enter,space", "dismiss(None)", "close")]

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(HELP, markup=False)
