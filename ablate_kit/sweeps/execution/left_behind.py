"""What modules keep on themselves beside their weights, such as an output that another reads."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def left_as_it_is(module: nn.Module) -> Iterator[None]:
    """The attributes of ``module`` and of its own are afterwards what they were, and so is what
    lists and dictionaries among them hold: later passes find what they would without those within.
    """
    holders = [vars(one) for one in module.modules()]
    inner = [held for one in holders for held in one.values() if type(held) in (dict, list)]
    before = [(held, held.copy()) for held in (*holders, *inner)]
    try:
        yield
    finally:
        for held, content in before:
            # Never without what is in it throughout: threads that prepare images may read that.
            if isinstance(held, list):
                held[:] = content
                continue
            for name in held.keys() - content.keys():
                del held[name]
            held.update(content)
