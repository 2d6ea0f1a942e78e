"""`cct completion`: a script with which a shell completes commands, options, names and files.

The script holds what it completes, so that no key waits for Python.
"""

import shlex
from collections.abc import Iterable
from typing import Literal

from cct_lightning.commands.help.pages import topics_of
from cct_lightning.commands.help.table import Option, command
from cct_lightning.commands.main import COMMANDS

# Words of the command line: `--config=dig` is one in zsh and three in bash, which breaks words at the sign.
_SCRIPT = """\
# Completion of cct, for bash and zsh; see `cct completion --help`.
{start}_cct() {{
    local IFS=$' \\t\\n' cur=${{COMP_WORDS[COMP_CWORD]}} option=${{COMP_WORDS[COMP_CWORD-1]}} prefix= words=
    if [[ $cur == "=" ]]; then cur=
    elif [[ $option == "=" ]]; then option=${{COMP_WORDS[COMP_CWORD-2]}}
    elif [[ $cur == --*=* ]]; then option=${{cur%%=*}}; prefix=$option=; cur=${{cur#*=}}
    fi
    if (( COMP_CWORD == 1 )); then words={commands}
    elif [[ $cur == -* ]]; then
        case ${{COMP_WORDS[1]}} in
{options}
        esac
    else
        case "${{COMP_WORDS[1]}} $option" in
{values}
        esac
    fi
    COMPREPLY=( $(compgen -P "$prefix" -W "$words" -- "$cur") )
}}
complete -o default -F _cct cct
"""
_SHORT = {"config": ("-c",)}
_START = {
    "bash": "",
    "zsh": "autoload -Uz compinit bashcompinit; (( $+functions[compdef] )) || compinit; bashcompinit\n",
}


def completion(shell: Literal["bash", "zsh"]) -> str:
    """Print a script that completes commands, options, their values and files.

    For bash, add this line to ~/.bashrc, for zsh with zsh in place of bash to ~/.zshrc: source <(cct completion bash)

    Args:
        shell: Of which shell.
    """
    options, values = {}, dict[str, list[str]]()
    for name in COMMANDS:
        found = command(name).options
        options[name] = ["--help", *(f"--{option.name}" for option in found if not option.positional)]
        for option in found:
            if words := " ".join(_values(option)):
                # A positional argument follows the command itself.
                flags = [name] if option.positional else [f"--{option.name}", *_SHORT.get(option.name, ())]
                values.setdefault(words, []).extend(f"{name} {flag}" for flag in flags)
        if topics := topics_of(name):
            values.setdefault(" ".join(topics), []).extend((f"{name} --help", f"{name} -h"))
    return _SCRIPT.format(
        start=_START[shell],
        commands=shlex.quote(" ".join(COMMANDS)),
        options="\n".join(_case([name], " ".join(words)) for name, words in options.items()),
        values="\n".join(_case(patterns, words) for words, patterns in values.items()),
    ).rstrip()


def _values(option: Option) -> Iterable[str]:
    switch = ("true", "false") if "bool" in option.types else ()
    return dict.fromkeys(map(str, (*(option.choices or option.values), *switch)))


def _case(patterns: Iterable[str], words: str) -> str:
    return f"            {'|'.join(map(shlex.quote, patterns))}) words={shlex.quote(words)} ;;"
