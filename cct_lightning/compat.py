"""Every private part of a library that the package touches, in one place; nobody else touches any.

Each entry says why the public interface is not enough. All were run with torch 2.14.1, torchvision 0.29.1,
pytorch-lightning 2.6.6, torchmetrics 1.9, wandb 0.31.0 and jsonargparse 4.53 (Python 3.11, 2026-11-30); the upper
bounds in requirements.txt are what was tested. tests/test_architecture.py finds private access anywhere else.

Libraries are imported where they are used: this file is imported by commands that need none of them.
"""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any, TypeVar, get_args

T = TypeVar("T")


def parser_actions(parser: Any) -> list[Any]:
    """Return what a parser was told of each option, for help and to suggest the nearest: it lists them nowhere else."""
    return list(parser._actions)


def type_of_option(action: Any) -> Any:
    """Return the annotation that jsonargparse reads an option by, argparse's `type` where it has none."""
    return getattr(action, "_typehint", None) or action.type


def whole_numbers_first(function: Any, names: Iterable[str]) -> None:
    """Annotate arguments so that jsonargparse reads 1 as 1, not as 1.0, which the Trainer takes for all batches.

    `typing` keeps one object for equal unions: Lightning's `Optional[Union[int, float]]` is the `Optional[Union[float,
    int]]` of whatever was imported before it, and jsonargparse then tries float first.
    """
    annotations = function.__annotations__
    for name in names:
        types = sorted(get_args(annotations[name]), key=lambda kind: kind is not int)
        annotations[name] = reduce(or_, types)  # a union by `|` is no shared object


def foreach(operation: str) -> Any:
    """Return torch's operation over lists of tensors (`lerp_`, `copy_`, ...): its optimizers use them, unnamed."""
    import torch

    return getattr(torch, f"_foreach_{operation}")


def cpu_computes_in_bf16() -> bool:
    """Tell whether this CPU has instructions for bfloat16: torch tells it for GPUs alone."""
    import platform

    import torch

    arm = platform.machine() in ("aarch64", "arm64") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return arm or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def is_compiled(module: Any) -> bool:
    """Tell whether `module.compile()` was called: compiled twice, a module is traced through its own wrapper."""
    return module._compiled_call_impl is not None


def trainer_of(pl_module: Any) -> Any:
    """Return a LightningModule's Trainer, None where it has none: its property raises there."""
    return pl_module._trainer


def unscale_outside(optimizer: Any) -> None:
    """Let Lightning unscale float16 gradients: it refuses to clip where fused AdamW offers to do it in its step."""
    optimizer._step_supports_amp_scaling = False


def set_rates(schedule: Any, rates: list[Any]) -> None:
    """Set the rates of a schedule's optimizer; `get_last_lr`, which is logged, answers from a copy of its own."""
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def make_restart_exact(trainer: Any, checkpoint: dict[str, Any], *, between_batches: bool, at_the_end: bool) -> None:
    """Put the loops' progress in a checkpoint into the form that Lightning restarts from exactly.

    Lightning expects checkpoints from its own hooks at the end of batches and epochs; saved before a batch, in a
    validation or at the end of a run, its counters would skip a batch, a validation, a row of the metrics, or the rest
    of an epoch that `max_steps` or `max_time` cut short.

    Args:
        trainer: In `fit`, training or validating.
        checkpoint: As Lightning made it; changed in place.
        between_batches: It is saved in `on_train_batch_start`, before the batch is used.
        at_the_end: It is saved in `on_train_end`.
    """
    loops, accumulated = checkpoint["loops"]["fit_loop"], trainer.accumulate_grad_batches
    progress = loops["epoch_loop.batch_progress"]
    total, current = progress["total"], progress["current"]
    if cut_short := at_the_end and not progress["is_last_batch"] and current["ready"] < trainer.num_training_batches:
        # As if saved before the next batch; batches that time left no optimizer step for are taken anew.
        unused = current["ready"] % accumulated
        for counts in (total, current):
            for name in ("started", "processed", "completed"):
                counts[name] -= unused
        current["ready"] = current["started"] + 1
        for counts in loops["epoch_progress"].values():
            counts["processed"] -= 1
            counts["completed"] -= 1
    # After a restart, Lightning counts the batch that was taken anew twice, and then takes other states for others.
    total["ready"] = total["started"] + current["ready"] - current["started"]
    if between_batches or cut_short:
        # The batch about to begin counts as ready, so that a restart takes it anew; for this, Lightning adds one to
        # the steps that it logs by where it takes the batch for one that ends a step.
        progress["is_last_batch"] = False
        last = current["ready"] == trainer.num_training_batches and not trainer.strategy.handles_gradient_accumulation
        if current["ready"] % accumulated == 0 or last:
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
    elif trainer.validating and trainer.state.status == "interrupted":
        # As in the first batch, whatever was reached: the metrics of the others are not in the checkpoint. (A
        # best.ckpt is saved after the last image, and needs no change.)
        begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        loops["epoch_loop.val_loop.batch_progress"] |= {
            "total": dict(begun),
            "current": dict(begun),
            "is_last_batch": False,
        }


def share_gradients_with_buckets(strategy: Any) -> None:
    """Let DDP's gradients lie in the buckets that it reduces: no copy of each to its bucket and back in every step.

    Lightning takes options of DDP in the constructor of the strategy alone, which it may choose by itself. An option
    that a user gave to a strategy wins.
    """
    strategy._ddp_kwargs.setdefault("gradient_as_bucket_view", True)


def start_next_epoch(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Let a run with `max_steps` continue after a complete epoch: Lightning would restart in it, and train nothing.

    Without `max_steps` Lightning sees that the epoch is complete.

    Args:
        trainer: About to restore the checkpoint.
        checkpoint: As read; changed in place.
    """
    loops = checkpoint["loops"]["fit_loop"]
    counts = loops["epoch_progress"]["current"]
    progress = loops["epoch_loop.batch_progress"]
    if trainer.max_steps == -1 or counts["completed"] != counts["ready"] or not progress["is_last_batch"]:
        return
    progress["current"] = dict.fromkeys(progress["current"], 0)
    progress["is_last_batch"] = False
    # Lightning takes the missing first batch for one that has ended a validation and a step.
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def rebuilds_constants(module: type[T]) -> type[T]:
    """Decorate a torch.nn.Module that computes its constants again, by `set_constants()`, after every `.to()`.

    A buffer that must stay float32 when the module becomes bfloat16 needs to know of the conversion; `.to()`, `.half()`
    and the rest all end in `_apply`, for submodules too, and torch has no public hook there.
    """
    apply: Any = module._apply  # type: ignore[attr-defined]

    def apply_and_rebuild(self: Any, fn: Any, recurse: bool = True) -> Any:
        apply(self, fn, recurse)
        self.set_constants()
        return self

    module._apply = apply_and_rebuild  # type: ignore[attr-defined]
    return module


def separate_restart(attempt: str) -> None:
    """Let the processes of one attempt of torchrun meet apart from those of the attempts before.

    The store of torchrun's agent survives a restart with what the last attempt left there; since torch 2.14 without a
    prefix for each attempt, so a fast process reads the address of one that has died. Lightning calls
    `init_process_group`, with its backend and timeout, and takes no store.
    """
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import _env_rendezvous_handler, _rendezvous_handlers

    def rendezvous(url: str, **options: Any) -> Any:
        for store, rank, size in _env_rendezvous_handler(url, **options):
            yield PrefixStore(f"attempt_{attempt}", store), rank, size

    _rendezvous_handlers["env"] = rendezvous


def end_launched_processes(trainer: Any) -> None:
    """Kill the processes that a Trainer has launched: Lightning kills them only where it is itself still in control."""
    for process in getattr(trainer.strategy.launcher, "procs", ()):
        process.kill()


def wandb_init_options(logger: Any) -> dict[str, Any]:
    """Return the options that Lightning's WandbLogger will call `wandb.init` with; a change of the dict counts.

    Two of them cannot be given to its constructor as we need them: the run's id is known only when there is a run
    folder, after the logger was made, and `anonymous` is always passed on, of which wandb warns that it does nothing.
    """
    return logger._wandb_init


def wandb_is_offline(logger: Any) -> bool:
    """Say whether a WandbLogger logs offline, any that a user may bring: it keeps the answer to itself."""
    return bool(logger._offline)


def set_wandb_offline(logger: Any) -> None:
    """Let a WandbLogger whose run could not begin online begin it offline: its constructor alone takes that."""
    logger._offline = True


def wandb_lost_errors() -> tuple[type[Exception], ...]:
    """Return what wandb raises when its service has died; the two of its mailbox are in no public module.

    A broken or silent connection to the service is an OSError.
    """
    import wandb
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return OSError, wandb.errors.CommError, HandleAbandonedError, MailboxClosedError


def wandb_model(view: Any) -> dict[str, Any]:
    """Return a workspace or a panel of wandb-workspaces as W&B stores it: only `save()` is public, which sends it."""
    import json

    return json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))


def state_dict_metadata(state: Any) -> dict[str, Any]:
    """Return what a state dict holds beside its tensors, in the attribute where PyTorch keeps its modules' versions."""
    return getattr(state, "_metadata", {})


def set_state_dict_metadata(state: Any, metadata: dict[str, Any]) -> None:
    """Keep plain data beside the tensors of a state dict, which whoever loads the weights does not notice."""
    state._metadata = metadata
