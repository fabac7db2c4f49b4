import pytest

from tests.kit.pacs import no_leaked_sockets


@pytest.fixture
def collected():
    """For tests with connections that are refused."""
    with no_leaked_sockets():
        yield
