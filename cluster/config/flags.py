"""Parses the command line; an error of the user's becomes one sentence."""

import contextlib
import io
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, TypeVar

import tyro

from child_trainer import own_files
from child_trainer.close_names import suggestion
from child_trainer.language_options import LanguageOptions
from child_trainer.tasks.catalogue import TASKS
from cluster.config.help import option_lines, option_names, option_values, switches
from cluster.config.parser_errors import as_typed, sentence_of
from cluster.config.plain_data import default_options
from cluster.config.run_config import RunConfig, unchecked
from cluster.config.task_options import TaskOptions
from cluster.formatting import first_line
from controller.catalogue import SEARCHERS
from controller.own_parts import find_searcher, find_space
from controller.spaces.catalogue import SPACES

T = TypeVar("T")

Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help="The run's name.")]
StoragePath = Annotated[str, tyro.conf.arg(help="Folder of all runs, or its URL.")]
Json = Annotated[bool, tyro.conf.arg(name="json", help="Print one JSON object instead of text.")]
Open = Annotated[bool, tyro.conf.arg(name="open", help="Show the page in a browser.")]

HELP_ALL = "--help-all"
"""Flag that prints the options of a run with the whole text of each."""

FROM_RUN = (
    "--from-run NAME --top 5 trains the best architectures of another run in place of a search, --warm-start before it,"
    " --start-with those of files"
)
"""What the help says of the flags that name architectures: see `cluster.runners.retraining`."""

REPEATED = ("--objective", "--target", "--callback")
"""Flags that are given once for each of several values."""

OTHER_WORDS: Mapping[str, str] = {"--sharing": "--searcher", "--lanes": "--children"}
"""Words that the literature on shared weights has for an option, and the option's own flag."""

BAD_INPUT = 2
"""Exit status of a command that cannot be carried out as typed."""


class UsageError(ValueError):
    """The command line is invalid; the message is one sentence."""


def parse(target: Callable[..., T], arguments: list[str], prog: str, **options: Any) -> T:
    """Parse the arguments with tyro, whose boxed error becomes one sentence.

    Raises:
        UsageError: the arguments cannot be understood.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(target, args=arguments, prog=prog, **options)
    except SystemExit as stop:
        if stop.code != BAD_INPUT:
            raise
        sentence = as_typed(sentence_of(errors.getvalue()), arguments)
        raise UsageError(f"{sentence} (`{prog} --help` lists the options)") from None


def parse_run(default: RunConfig, arguments: list[str], recipe: str, description: str | None = None) -> RunConfig:
    """Return the run that the flags of `nascluster launch RECIPE` make of a default.

    The searcher and the space are looked up first, because they decide which other flags there are.
    `--target-parameters` replaces a width of the default, with which it would have no effect.

    Raises:
        UsageError: as `parse`, or an option is of a part that the run does not have, or both a width and
            `--target-parameters` are given.
        ValueError: a value is invalid.
    """
    default = _draft(default, arguments)
    _check_repeated(arguments)
    given = {flag_of(word) for word in arguments}
    if given & {"-h", "--help"}:
        print(run_help(default, recipe, description, shutil.get_terminal_size().columns))
        raise SystemExit(0)
    _check_owners(default, [flag for flag in given if flag.startswith("--")])
    _check_not_empty(default, arguments)
    targeted, wide = "--target-parameters" in given, "--hidden-size" in given
    if targeted and not wide and isinstance(default.task.options, LanguageOptions):
        options = replace(default.task.options, hidden_size=None)
        object.__setattr__(default, "task", replace(default.task, options=options))
    with _naming_own_options(default):
        config = parse(
            RunConfig,
            ["--help" if word == HELP_ALL else word for word in _without_idle_switches(default, arguments)],
            f"nascluster launch {recipe}",
            default=default,
            description=f"{description or ''}\n{FROM_RUN}",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    if targeted and wide and config.task.options.hidden_size is not None:
        raise UsageError("give `--hidden-size` or `--target-parameters`, from which the width follows, not both")
    return config


@contextlib.contextmanager
def _naming_own_options(draft: RunConfig) -> Iterator[None]:
    """Turn an error that options of the user's own raise for their values, if it is no `ValueError`, into one."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        own = [name for name in (draft.searcher, draft.space, draft.task.task) if own_files.is_own(name)]
        if not own:
            raise
        reason = f"{type(error).__name__}: {first_line(str(error))}"
        raise ValueError(f"the options of {' or '.join(own)} cannot be made: {reason}") from error


def run_help(default: RunConfig, recipe: str, description: str | None, width: int) -> str:
    """Return the options that a run of these parts has, a line each; those that only few runs need on a few lines."""
    usage = f"usage: nascluster launch {recipe} [options]   ({HELP_ALL} describes them at length)"
    head = [usage, *([description] if description else []), FROM_RUN]
    # Without the empty lines between groups: there are many, and their titles stand out as they are.
    return "\n".join([*head, *filter(None, option_lines(default, width=max(80, width)))])


def _draft(default: RunConfig, arguments: Sequence[str]) -> RunConfig:
    """Return the default with the searcher, the space and the task that the flags name, and their default options.

    The draft is not checked: only all flags together tell whether the parts fit, and they make a new configuration.
    """
    values = {f.name: getattr(default, f.name) for f in fields(RunConfig)}
    for what, find in (("searcher", find_searcher), ("space", find_space)):
        name = value_of(arguments, f"--{what}")
        if name is not None and name != getattr(default, what):
            values |= {what: name, f"{what}_options": default_options(find(name).options, name)}
    task = value_of(arguments, "--task")
    if task is not None and task != default.task.task:
        values["task"] = TaskOptions(task=task, data=default.task.data, download=default.task.download)
    draft = unchecked(values)
    _check_distinct(draft)
    return draft


def _without_idle_switches(draft: RunConfig, arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the switches that say what is so anyway; of one that is given twice the last counts.

    tyro knows only the form of a switch that changes its default, and a recipe's defaults are not the reader's to know.
    """
    forms = {
        form: (name, form == f"--{name}", value)
        for name, value in switches(draft)
        for form in (f"--{name}", f"--no-{name}")
    }
    words = [word.replace("_", "-") for word in arguments]
    last = {forms[word][0]: place for place, word in enumerate(words) if word in forms}

    def counts(place: int, word: str) -> bool:
        if word not in forms:
            return True
        name, turns_on, value = forms[word]
        return place == last[name] and turns_on != value

    return [argument for place, argument in enumerate(arguments) if counts(place, words[place])]


def _check_distinct(draft: RunConfig) -> None:
    """Raise `UsageError` if two parts have an option of one name, which would be one flag."""
    owners: dict[str, str] = {}
    for owner, name in option_names(draft):
        if name in owners:
            raise UsageError(
                f"`{name}` is an option of {owners[name]} and of {owner}: an option of your own needs a name of its own"
            )
        owners[name] = owner


def _check_owners(draft: RunConfig, given: Collection[str]) -> None:
    """Raise `UsageError` if a flag is an option of a part that the run does not have."""
    known = {name for _, name in option_names(draft)}
    parts: list[tuple[str, Mapping[str, Any], str]] = [
        ("searcher", SEARCHERS, draft.searcher),
        ("space", SPACES, draft.space),
        ("task", TASKS, draft.task.task),
    ]
    for flag in sorted(given):
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        for what, catalogue, used in parts:
            owners = [owner for owner, entry in catalogue.items() if name in {f.name for f in fields(entry.options)}]
            if owners and name not in known:
                raise UsageError(
                    f"Unrecognized options: {flag} (an option of the {what} {' or '.join(owners)}; the run has the"
                    f" {what} {used})"
                )


def _check_repeated(arguments: Sequence[str]) -> None:
    """Raise `UsageError` if a flag that is repeated for several values has several at once."""
    for first, *rest in flag_groups(arguments):
        flag, equals, value = first.partition("=")
        values = [value, *rest] if equals else rest
        if flag in REPEATED and len(values) > 1:
            raise UsageError(f"`{flag}` takes one value each time: {' '.join(f'{flag} {text}' for text in values)}")


def _check_not_empty(draft: RunConfig, arguments: Sequence[str]) -> None:
    """Raise `UsageError` if a flag of several values has none and so changes nothing, as where they were forgotten."""
    empty = {f"--{name.replace('_', '-')}" for name, value in option_values(draft) if value == ()}
    for flag in sorted(empty & set(map(flag_of, arguments)) - set(REPEATED)):
        if not values_of(arguments, flag):
            raise UsageError(f"`{flag}` needs one value or more")


def check_options(default: RunConfig, arguments: Sequence[str]) -> None:
    """Raise `UsageError` if a flag among the arguments is no option of a run, such as `--help`."""
    draft = _draft(default, arguments)
    given = [flag_of(word) for word in arguments if word.startswith("--")]
    _check_owners(draft, given)
    known = [name.replace("_", "-") for _, name in option_names(draft)]
    for flag in given:
        if (name := flag.removeprefix("--")) not in known:
            raise UsageError(f"Unrecognized options: {flag}{suggestion(name, known)}")


def value_of(arguments: Sequence[str], flag: str) -> str | None:
    """Return the last value that the arguments give to a flag, as `--flag VALUE` or `--flag=VALUE`."""
    value = None
    for group in flag_groups(arguments):
        if flag_of(group[0]) == flag:
            _, equals, rest = group[0].partition("=")
            value = rest if equals else group[1] if len(group) > 1 else None
    return value


def values_of(arguments: Sequence[str], flag: str) -> list[str] | None:
    """Return all values that the arguments give to a flag, however often; `None` if they do not have the flag."""
    groups = [group for group in flag_groups(arguments) if flag_of(group[0]) == flag]
    values = [text for first, *rest in groups for text in (first.partition("=")[2], *rest) if text]
    return values if groups else None


def in_own_words(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with an option's own flag in place of each of `OTHER_WORDS`."""
    return [
        OTHER_WORDS[flag] + word[len(flag) :] if (flag := flag_of(word)) in OTHER_WORDS else word for word in arguments
    ]


def flag_of(word: str) -> str:
    """Return a word's flag, without its value and with dashes for underscores."""
    return word.partition("=")[0].replace("_", "-")


def flag_groups(arguments: Sequence[str]) -> list[list[str]]:
    """Return each flag with the words that follow it up to the next flag."""
    groups: list[list[str]] = []
    for word in arguments:
        if word.startswith("--") or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    return groups


def flags_among(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return the arguments that are one of these flags, with their values."""
    return [word for group in flag_groups(arguments) if flag_of(group[0]) in flags for word in group]


def flags_not_among(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return the arguments without these flags and their values."""
    return [word for group in flag_groups(arguments) if flag_of(group[0]) not in flags for word in group]


def split(arguments: Sequence[str], valued: Collection[str], alone: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the arguments of the command itself, and the flags of a run that follow.

    Args:
        arguments: those of the command line. Words before the first flag belong to the command, and so do words that
            come after one of its flags and that flag's value: behind a flag of a run they may be its values.
        valued: the command's flags that take a value.
        alone: the command's flags that take none.
    """
    words, ours, flags = list[str](), list[str](), list[str]()
    rest, of_run = list(arguments), False
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0].replace("_", "-")
        if name in (*valued, *alone):
            of_run = False
            ours.append(word)
            if name in valued and "=" not in word and rest:
                ours.append(rest.pop(0))
        elif of_run or word.startswith("-"):
            of_run = True
            flags.append(word)
        else:
            words.append(word)
    return words + ours, flags
