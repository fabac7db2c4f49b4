"""Every call that makes a tensor names its device."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import medgan

PACKAGE = Path(medgan.__file__).parent
FACTORIES = {
    "torch." + name
    for name in (
        "arange", "as_tensor", "asarray", "bartlett_window", "blackman_window", "empty",
        "empty_strided", "eye", "fft.fftfreq", "fft.rfftfreq", "full", "hamming_window",
        "hann_window", "kaiser_window", "linspace", "logspace", "normal", "ones", "rand", "randint",
        "randn", "randperm", "range", "scalar_tensor", "sparse_coo_tensor", "tensor",
        "tril_indices", "triu_indices", "zeros",
    )
}  # fmt: skip


def unnamed(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each factory call with neither a device nor a generator, which has one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FACTORIES:
            named = {keyword.arg for keyword in node.keywords}
            if not named & {"device", "generator"}:
                yield node.lineno, ast.unparse(node.func)


def test_every_tensor_names_its_device():
    found = [
        f"{path.relative_to(PACKAGE)}:{line} {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name in unnamed(path.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("torch.zeros(3)", 1),
        ("torch.fft.fftfreq(4, 1.0)", 1),
        ("f(torch.eye(3), torch.ones(2, dtype=torch.bool))", 2),
        ("torch.zeros(3, device=x.device)", 0),
        ("torch.rand(3, generator=random)", 0),
        ("torch.zeros_like(x), x.new_zeros(3), torch.from_numpy(a)", 0),
    ],
)
def test_the_check_finds_calls_without_a_device(source, count):
    assert len(list(unnamed(source))) == count


def test_factories_are_called_by_their_full_name():
    """`from torch import zeros` would hide from the check above."""
    plain = {name.removeprefix("torch.") for name in FACTORIES}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "torch":
                assert not plain & {alias.name for alias in node.names}, path
