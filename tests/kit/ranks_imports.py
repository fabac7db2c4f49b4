"""What every process of `kit/ranks.py` needs, imported once."""

import tests.kit.models  # noqa: F401
