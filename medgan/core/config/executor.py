"""Settings of what works on many scans: how many processes, on which machines, which share."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from medgan.core.config.fields import Section


def _is_share(text: str) -> str:
    """A share such as 3/10, or an error."""
    number, _, of = text.partition("/")
    if text and not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ValueError(f"no share {text}: give 1/10 to 10/10")
    return f"{int(number)}/{int(of)}" if text else ""


Share = Annotated[str, AfterValidator(_is_share)]


class ExecutorConfig(Section):
    """Worker processes and shards: they change how long work takes, and not what it gives."""

    engine: Literal["local", "ray"] = Field(
        "local", description="local: processes of this machine; ray: a Ray cluster (medgan[ray])"
    )
    workers: int = Field(
        0,
        ge=0,
        description="processes that work at a time, each with the model in its memory; 1 is this "
        "one alone. 0 takes as many as pay: of a Ray cluster all cores or GPUs; here as many as "
        "there are cores (or GPUs), memory for them and some seconds of work for each",
    )
    case_minutes: float = Field(
        0.0,
        ge=0,
        description="after which a worker that is not done with a case counts as hung: it is "
        "killed, the case is tried once more and then refused (E_HUNG). 0 waits an hour for the "
        "first case, then fifty times as long as the longest took, at least 15 minutes",
    )
    shard: Share = Field(
        "",
        description="share of the scans to work on, such as 3/10: the third of ten. Shards may run "
        "on several machines at the same time, in one folder; the last one to end makes the tables "
        "of all, or medgan merge",
    )
    ray_address: str = Field(
        "",
        description="of a running Ray cluster, such as 10.0.0.1:6379; empty takes RAY_ADDRESS, and "
        "without that starts Ray on this machine",
    )
    gpus_each: float = Field(
        1.0,
        gt=0,
        description="share of a GPU that each worker of Ray takes, such as 0.25; without GPUs in "
        "the cluster, or with train.device=cpu, none",
    )
