import torch

from medgan.core.seeding import seeded


def test_what_is_drawn_inside_depends_on_the_seed_and_leaves_no_trace_outside():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(7, torch.device("cpu")):
        first = torch.rand(4)
    assert torch.equal(torch.rand(2), expected)
    with seeded(7, torch.device("cpu")):
        assert torch.equal(torch.rand(4), first)
    with seeded(8, torch.device("cpu")):
        assert not torch.equal(torch.rand(4), first)
