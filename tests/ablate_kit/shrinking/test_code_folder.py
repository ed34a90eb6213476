"""The code of a folder whose sizes no setting describes."""

import pytest
from torch import nn

from ablate_kit.errors import UserError
from ablate_kit.shrinking.code_folder import code_for


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n_heads, self.d_model = 4, 32
        self.value_proj = nn.Linear(32, 32)
        self.norm = nn.LayerNorm(32)
        self.grouped = nn.Conv2d(32, 32, 1, groups=2)


class OwnDetector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention()


MODEL = OwnDetector()
CURRENT = {name: tuple(one.shape) for name, one in MODEL.state_dict().items()}
OWN = {"AutoConfig": "own.OwnConfig", "AutoModelForObjectDetection": "own.OwnDetector"}


def test_a_class_of_the_folder_is_taken_from_its_file() -> None:
    wanted = CURRENT | {"attn.value_proj.weight": (24, 32), "attn.value_proj.bias": (24,)}
    heads = {"attn": (3, ["attn.value_proj.weight"])}
    code = code_for(MODEL, CURRENT, wanted, heads, OWN)
    assert "\nfrom .own import OwnDetector\n" in code.text
    compile(code.text, "modeling_shrunk.py", "exec")
    assert code.settings["auto_map"] == {
        "AutoConfig": "own.OwnConfig",
        "AutoModelForObjectDetection": "modeling_shrunk.ShrunkOwnDetector",
    }
    assert code.settings["shrunk"] == {
        "sizes": {"attn.value_proj.weight": [24, 32], "attn.value_proj.bias": [24]},
        "attributes": {"attn": {"n_heads": 3, "d_model": 24}},
        "heads": {"attn": 3},
    }


@pytest.mark.parametrize(
    ("tensor", "auto_map", "message"),
    [
        ("attn.value_proj.weight", {}, "OwnDetector is neither a class of transformers nor one"),
        ("attn.norm.weight", OWN, "attn.norm normalizes over its channels"),
        ("attn.grouped.weight", OWN, "attn.grouped has 2 groups of channels"),
        ("attn.other.weight", OWN, "has no attn.other.weight"),
    ],
)
def test_what_no_code_can_do_is_refused(
    tensor: str, auto_map: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        code_for(MODEL, CURRENT, CURRENT | {tensor: (3,)}, {}, auto_map)
