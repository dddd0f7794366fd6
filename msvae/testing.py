"""For the tests of plugins: the conformance checks, and structures to try a plugin on.

@pytest.mark.parametrize("check", msvae.testing.checks(MySolver), ids=str)
def test_conformance(check):
    check()
"""

from msvae.plugins.conformance import Check, checks, example_structures, leak

__all__ = ["Check", "checks", "example_structures", "leak"]
