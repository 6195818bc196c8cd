"""tuneyard completion."""

from __future__ import annotations

import click

from orchestrator.cli.output import emit, json_option

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
@click.pass_context
def completion_verb(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the shell completion script.

    \b
    Load it where the shell starts:
      eval "$(tuneyard completion bash)"     in ~/.bashrc
      eval "$(tuneyard completion zsh)"      in ~/.zshrc
      tuneyard completion fish | source      in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class  # here: no other verb needs it

    kind = get_completion_class(shell)
    if kind is None:  # click knows all of SHELLS
        raise click.UsageError(f"no completion for {shell}")
    script = kind(context.find_root().command, {}, "tuneyard", "_TUNEYARD_COMPLETE").source()
    if as_json:
        emit({"shell": shell, "script": script})
    else:
        click.echo(script)
