"""Completion for shells: small scripts that ask this program what may follow."""

from __future__ import annotations

from typing import Final

from services.dpservice.client.commands import COMMANDS, VERB_ALIASES, find
from services.dpservice.client.flags import SHARED
from services.dpservice.client.values import BadValue

ASK: Final = "ferrite dpservice complete"
SCRIPTS: Final = {
    "bash": f"""\
_ferrite_dpservice() {{
    [ "${{COMP_WORDS[1]}}" = dpservice ] || return
    mapfile -t COMPREPLY < <({ASK} "${{COMP_WORDS[@]:2:COMP_CWORD-1}}")
}}
complete -o default -F _ferrite_dpservice ferrite""",
    "zsh": f"""\
#compdef ferrite
_ferrite_dpservice() {{
    [[ "$words[2]" == dpservice ]] || return
    compadd -- ${{(f)"$({ASK} "${{(@)words[3,CURRENT]}}")"}}
}}
compdef _ferrite_dpservice ferrite""",
    "fish": f"""\
complete -c ferrite -f -n 'test (commandline -opc)[2] = dpservice' \\
    -a '({ASK} (commandline -opc)[3..] (commandline -ct))'""",
    "powershell": f"""\
Register-ArgumentCompleter -Native -CommandName ferrite -ScriptBlock {{
    param($word, $line, $at)
    $words = $line.CommandElements | Select-Object -Skip 2 | ForEach-Object {{ $_.ToString() }}
    if (-not $word) {{ $words = @($words) + '' }}
    & {ASK} @words | ForEach-Object {{ [System.Management.Automation.CompletionResult]::new($_) }}
}}""",
}


def script(shell: str) -> str:
    """What a shell sources. Raises BadValue for a shell that isn't known."""
    if shell not in SCRIPTS:
        raise BadValue(f"completion: {shell or 'nothing'!r} is not one of {', '.join(SCRIPTS)}")
    return SCRIPTS[shell]


def candidates(words: list[str]) -> list[str]:
    """What the last word, which may be empty, can become."""
    *before, last = words or [""]
    named = [word for word in before if not word.startswith("-")]
    if last.startswith("-"):
        found = find(named)
        own = found[0].flags if len(found) == 1 else ()
        choices = [f"--{flag.name}" for flag in (*own, *SHARED)]
    elif not named:
        choices = list(dict.fromkeys(command.verb for command in COMMANDS))
    elif len(named) == 1:
        verb = VERB_ALIASES.get(named[0].lower(), named[0].lower())
        choices = [command.noun for command in COMMANDS if command.verb == verb and command.noun]
    else:
        choices = []
    return sorted(choice for choice in choices if choice.startswith(last.lower()))
