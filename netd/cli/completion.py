"""`netctl completion`: scripts that teach a shell to complete netctl's command lines."""

import click


@click.command(
    epilog="\b\nExamples:\n"
    "  netctl completion bash > /etc/bash_completion.d/netctl\n"
    "  netctl completion zsh > /usr/local/share/zsh/site-functions/_netctl\n"
    "  netctl completion fish > ~/.config/fish/completions/netctl.fish"
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    It completes commands and options, and names of networks, endpoints, members and keys from
    the daemon.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    root = click.get_current_context().find_root().command
    # A template needs no look at the shell that is installed here, as source() takes for bash.
    script = kind(root, {}, "netctl", "_NETCTL_COMPLETE")
    click.echo(script.source_template % script.source_vars())
