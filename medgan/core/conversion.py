"""What a translator makes of what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conversion:
    """What is made of what; it travels with a model.

    Attributes:
        task: that the model was trained for.
        source, target: names of image channels.
        noise: whether the network sees noise beside the source.
    """

    task: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    noise: bool

    @property
    def paired(self) -> bool:
        """Whether there are pairs to learn from; else a discriminator sees targets alone."""
        return self.task != "harmonisation"

    @classmethod
    def read(cls, values: dict[str, object]) -> "Conversion":
        """What `dataclasses.asdict` gave, back from JSON.

        Raises:
            TypeError: when it is nothing of the kind.
        """
        names = {name: tuple(map(str, values[name])) for name in ("source", "target")}  # pyright: ignore
        return cls(str(values["task"]), names["source"], names["target"], bool(values["noise"]))
