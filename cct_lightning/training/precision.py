"""Which precisions a kind of device (`cpu`, `cuda`, `mps`) computes in."""

from cct_lightning.compat import cpu_computes_in_bf16
from cct_lightning.errors import InputError


def precision_name(precision: str | int | None) -> str:
    """Return Lightning's whole name of a precision: `32-true` for 32 and None, `bf16-mixed` for bf16."""
    whole = {"None": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}
    return whole.get(str(precision), str(precision))


def has_bf16(device_type: str) -> bool:
    """Tell whether a kind of device computes in bfloat16 by itself; emulated, it is slower than float32."""
    if device_type == "cuda":
        import torch  # not at the top: a configuration is read without it

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device_type != "cpu" or cpu_computes_in_bf16()


def best_precision(device_type: str) -> str:
    """Return the fastest precision that trains as well as float32: `bf16-mixed` where the device has it."""
    return "bf16-mixed" if has_bf16(device_type) else "32-true"


def check_precision(precision: str | int, *, device_type: str) -> None:
    """Check that a kind of device has one of Lightning's precisions: `32-true`, `bf16-mixed`, `16-mixed`, ...

    Raises:
        InputError: It does not.
    """
    name = precision_name(precision)
    where = {"cpu": "This CPU", "cuda": "This GPU", "mps": "Apple's GPU"}.get(device_type, f"The device {device_type}")
    if name.startswith("bf16") and not has_bf16(device_type):
        instead, lacks = "16-mixed" if device_type == "cuda" else "32-true", "does not compute in bfloat16"
    elif name.startswith("16") and device_type == "cpu":
        instead, lacks = best_precision("cpu"), "does not train in float16"
    elif name.startswith("64") and device_type == "mps":
        instead, lacks = "32-true", "has no float64"
    else:
        return
    raise InputError(f"{where} {lacks}: use --trainer.precision {instead} in place of {name}.")
