"""Checks the runs of a grid before the first one starts, with the parser and the classes that the runs will use."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence

from jsonargparse import Namespace

from cct_lightning.ablation.grid import SEED, GridRun
from cct_lightning.ablation.plan import Cost
from cct_lightning.commands.fit import CctCLI
from cct_lightning.commands.main import expand_configs
from cct_lightning.errors import InputError
from cct_lightning.models.complexity import Summary, summarize
from cct_lightning.tracking.progress import quiet_libraries


class _ParserOnly(CctCLI):
    """The command line of `cct fit`, that parses and does nothing."""

    def instantiate_classes(self) -> None:
        """Nothing is built: `check_runs` builds what it needs."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass

    def _set_seed(self) -> None:
        pass


def check_runs(runs: Sequence[GridRun], *, prepare: bool) -> list[Cost]:
    """Parse the command line of every run and build each model once.

    Args:
        runs: The runs.
        prepare: Also download and decode the data, so that no run finds it missing.

    Returns:
        What each costs.

    Raises:
        InputError: A run that would not start.
    """
    quiet_libraries()
    cli: _ParserOnly | None = None
    known: dict[str, Summary] = {}
    costs = []
    for run in runs:
        words = ["fit", *expand_configs(["fit", *run.arguments])[1:]]
        with _one_sentence(run):
            # Building the parser takes longer than parsing.
            cli = cli or _ParserOnly(words)
            config = cli.parser.parse_args(words)
            # Many runs differ in the seed alone.
            key = str({name: value for name, value in run.parameters.items() if name != SEED})
            if key not in known:
                known[key] = _build(cli, config, prepare=prepare)
        model = known[key]
        costs.append(Cost(params=model.params, macs=model.macs, epochs=config.fit.trainer.max_epochs or 0))
    return costs


def _build(cli: CctCLI, config: Namespace, *, prepare: bool) -> Summary:
    built = cli.parser.instantiate_classes(config).fit
    if prepare:
        built.data.prepare()
    return summarize(built.model.net, tuple(built.model.hparams["img_size"]), built.model.hparams["in_chans"])


@contextlib.contextmanager
def _one_sentence(run: GridRun) -> Iterator[None]:
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            yield
    except SystemExit as error:
        text = re.sub(r"^\S+( fit)?: ", "", " ".join(message.getvalue().split()))
        raise InputError(f"The run {run.name} would not start: {text}") from error
    except InputError as error:
        raise InputError(f"The run {run.name} would not start: {error}") from error
