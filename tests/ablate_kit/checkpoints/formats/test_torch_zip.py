"""What a torch zip file may claim about its tensors, and what it may not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._tensor import _rebuild_from_type_v2
from torch._utils import (
    _rebuild_parameter_with_state,
    _rebuild_sparse_tensor,
    _rebuild_tensor,
    _rebuild_tensor_v2,
    _rebuild_tensor_v3,
)

from ablate_kit.checkpoints import CheckpointError, UnresolvedObject, open_archive, show
from ablate_kit.checkpoints.unsupported_tensors import unsupported
from tests.ablate_kit.crafted_pickles import Call, ref

FOUR = torch.arange(4.0).numpy().tobytes()


def view(storage: Any, offset: Any, size: Any, stride: Any) -> Any:
    return Call(_rebuild_tensor_v2, storage, offset, size, stride, False, {})


def test_a_crafted_tensor_reads_as_torch_reads_it(zipped: Any) -> None:
    tree = {
        "a": view(ref(), 1, (3,), (1,)),
        "b": Call(_rebuild_tensor, ref(), 0, (2, 2), (1, 2)),
        "c": Call(_rebuild_tensor_v3, ref(), 0, (4,), (1,), False, {}, torch.float32),
    }
    with open_archive(zipped(tree, {"0": FOUR})) as archive:
        assert archive.read("a").tolist() == [1, 2, 3]
        assert archive.read("b").tolist() == [[0, 2], [1, 3]]
        assert archive.read("c").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (2, 3), (3, 1)),
        (0, (2,), (4,)),
        (3, (2,), (1,)),
        (-1, (2,), (1,)),
        (3, (2,), (-1,)),
        (0, (-1,), (1,)),
        (0, (2,), (1, 1)),
        (0, (2**62, 2**62), (0, 0)),
        (0, (0, 2**62, 2**62), (0, 0, 0)),
        (2**70, (1,), (1,)),
        (0, (2,), (2**200,)),
    ],
)
def test_views_beyond_their_storage_are_refused(
    zipped: Any, offset: Any, size: Any, stride: Any
) -> None:
    path = zipped({"a": view(ref(), offset, size, stride)}, {"0": FOUR})
    with pytest.raises(CheckpointError, match=r"crafted\.pth .*it has a .*tensor"):
        open_archive(path)


@pytest.mark.parametrize("numel", [3, 5, 0, -1, 2**80])
def test_storages_of_another_size_than_their_record_are_refused(zipped: Any, numel: int) -> None:
    path = zipped({"a": view(ref(numel=numel), 0, (1,), (1,))}, {"0": FOUR})
    with pytest.raises(CheckpointError, match="storage '0' should hold"):
        open_archive(path)


def test_references_to_no_storage_are_refused(zipped: Any) -> None:
    for storage, words in (
        (ref("1"), "storage '1' is missing"),
        (ref("../data.pkl"), "is missing"),
        (ref(tag="module"), "which is no storage"),
        (ref(numel="4"), "which is no storage"),
        (ref(kind="FloatStorage"), "which is no storage"),
    ):
        with pytest.raises(CheckpointError, match=words):
            open_archive(zipped({"a": view(storage, 0, (1,), (1,))}, {"0": FOUR}))


def test_one_storage_has_one_description(zipped: Any) -> None:
    for other in (ref(kind=torch.IntStorage), ref(numel=2), ref(kind=torch.HalfStorage, numel=8)):
        tree = {"a": view(ref(), 0, (4,), (1,)), "b": view(other, 0, (1,), (1,))}
        with pytest.raises(CheckpointError, match="describes storage '0' in two ways"):
            open_archive(zipped(tree, {"0": FOUR}))


def test_a_tensor_is_rebuilt_once(zipped: Any) -> None:
    storage = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + b"K\x00K\x04\x85K\x01\x85\x89}tR"
    with pytest.raises(CheckpointError, match="sets the state of tensor"):
        open_archive(zipped(b"\x80\x02" + rebuild + b"}b.", {"0": FOUR}))


def test_kinds_of_tensors_that_are_more_than_bytes_stay_opaque(tmp_path: Path) -> None:
    dense = torch.eye(2)
    complex_values = torch.tensor([1 + 2j])
    tree = {
        "sparse": dense.to_sparse(),
        "conjugated": complex_values.conj(),
        "negated": torch.ones(1)._neg_view(),
        "meta": torch.empty(2, device="meta"),
        "packed": torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        "dense": dense,
    }
    path = tmp_path / "kinds.pth"
    torch.save(tree, path)
    with open_archive(path) as archive:
        assert list(archive.tensors) == ["dense"]
        assert all(
            isinstance(archive.metadata[name], UnresolvedObject) for name in tree if name != "dense"
        )
        assert show(archive.metadata["sparse"]).startswith("torch._utils._rebuild_sparse_tensor(")
        assert unsupported(archive.metadata, "") == {
            "sparse": "sparse",
            "conjugated": "a conjugate or negated view",
            "negated": "a conjugate or negated view",
            "meta": "without data",
            "packed": "of the type float4_e2m1fn_x2",
        }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantized_tensors_stay_opaque(tmp_path: Path) -> None:
    path = tmp_path / "quantized.pth"
    torch.save({"q": torch.quantize_per_tensor(torch.ones(3), 0.5, 0, torch.quint8)}, path)
    with open_archive(path) as archive:
        assert not archive.tensors
        assert show(archive.metadata["q"]).startswith(
            "torch._utils._rebuild_qtensor(torch.QUInt8Storage('0', 3), 0, (3,), (1,)"
        )


def test_subclasses_stay_opaque_and_attributes_do_not_matter(zipped: Any) -> None:
    plain = (ref(), 0, (4,), (1,), False, {})
    tree = {
        "attribute": Call(
            _rebuild_from_type_v2, _rebuild_tensor_v2, torch.Tensor, plain, {"note": 1}
        ),
        "parameter": Call(
            _rebuild_parameter_with_state, view(ref(), 0, (4,), (1,)), True, {}, {"note": 1}
        ),
        "subclass": Call(_rebuild_from_type_v2, _rebuild_tensor_v2, torch.Size, plain, {}),
        "function": Call(_rebuild_from_type_v2, _rebuild_sparse_tensor, torch.Tensor, plain, {}),
    }
    with open_archive(zipped(tree, {"0": FOUR})) as archive:
        assert list(archive.tensors) == ["attribute", "parameter"]
        assert isinstance(archive.metadata["subclass"], UnresolvedObject)
        assert isinstance(archive.metadata["function"], UnresolvedObject)


def test_two_tensors_of_one_name_are_refused(zipped: Any) -> None:
    tensor = view(ref(), 0, (4,), (1,))
    with pytest.raises(CheckpointError, match=r"two tensors named 'a\.b'"):
        open_archive(zipped({"a.b": tensor, "a": {"b": tensor}}, {"0": FOUR}))


def test_one_state_dict_under_two_names_has_both(zipped: Any) -> None:
    weights = {"w": view(ref(), 0, (4,), (1,))}
    with open_archive(zipped({"model": weights, "ema": weights}, {"0": FOUR})) as archive:
        assert list(archive.tensors) == ["model.w", "ema.w"]


def test_cycles_are_entered_once(zipped: Any) -> None:
    tree: dict[str, Any] = {"w": view(ref(), 0, (4,), (1,))}
    tree["self"] = {"again": tree}
    with open_archive(zipped(tree, {"0": FOUR})) as archive:
        assert list(archive.tensors) == ["w"]


def test_names_cannot_be_multiplied_without_end(zipped: Any) -> None:
    tree: Any = {"w": view(ref(), 0, (4,), (1,))}
    for _ in range(40):
        tree = {"a": tree, "b": tree}
    # Without a bound, neither would end in a lifetime.
    with pytest.raises(CheckpointError, match="too many names"):
        open_archive(zipped(tree, {"0": FOUR}))
    numbers: Any = list(range(1000))
    for _ in range(40):
        numbers = [numbers, numbers]
    with pytest.raises(CheckpointError, match="too many names"):
        open_archive(zipped(numbers))


def test_containers_nested_beyond_reason_are_refused(zipped: Any) -> None:
    with pytest.raises(CheckpointError, match="nested deeper than 64 levels"):
        open_archive(zipped(b"](K\x01" * 100_000 + b"e" * 100_000 + b"."))


def test_a_bare_tensor_and_a_list_have_names(zipped: Any) -> None:
    tensor = view(ref(), 0, (4,), (1,))
    with open_archive(zipped(tensor, {"0": FOUR})) as archive:
        assert list(archive.tensors) == ["tensor"]
    with open_archive(zipped([tensor, 3, tensor], {"0": FOUR})) as archive:
        assert list(archive.tensors) == ["0", "2"]
        assert show(archive.metadata) == "{'': [tensor(float32, (4,)), 3, tensor(float32, (4,))]}"


def test_big_endian_files_are_refused(zipped: Any) -> None:
    with pytest.raises(CheckpointError, match="big-endian"):
        open_archive(zipped({}, byteorder=b"big"))
