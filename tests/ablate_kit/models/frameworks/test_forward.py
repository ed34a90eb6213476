"""What the user can mend of a failing forward pass, and what is a failure of a program."""

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.edits import Removed
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.forward import ForwardPasses
from ablate_kit.sweeps.execution.first_use import FirstUseTracer
from ablate_kit.sweeps.execution.identities import Identities

IMAGES = torch.zeros(1, 3, 8, 6)
DEVICE = [
    "CUDA error: device-side assert triggered",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "MPS backend reported an error",
]


def passes() -> ForwardPasses:
    return ForwardPasses("the model", "the test makes them")


def test_a_model_that_never_ran_does_not_fit_the_images() -> None:
    told = (
        r"^the model does not run on images of 6x8 pixels, as the test makes them: IndexError: 5$"
    )
    with pytest.raises(UserError, match=told), passes().on(IMAGES):
        raise IndexError(5)


def test_nor_does_one_that_checks_their_size() -> None:
    told = "does not run on images of 6x8 pixels.*: AssertionError: height .8. is not 224"
    with pytest.raises(UserError, match=told), passes().on(IMAGES):
        torch._assert(IMAGES.shape[2] == 224, "height (8) is not 224")


def test_nor_does_one_whose_pass_is_watched() -> None:
    net = nn.Conv2d(2, 3, 1)
    told = r"does not run on images of 6x8 pixels.*to have 2 channels, but got 3 channels"
    with pytest.raises(UserError, match=told), FirstUseTracer(Identities(net)), passes().on(IMAGES):
        net(IMAGES)


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("unreachable"),
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("device-side assert"),
        *map(RuntimeError, DEVICE),
    ],
    ids=str,
)
def test_failures_of_programs_and_devices_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as found, passes().on(IMAGES):
        raise error
    assert found.value is error


def test_a_model_that_ran_on_such_images_fails_for_another_reason() -> None:
    one = passes()
    with one.on(IMAGES):
        pass
    with pytest.raises(RuntimeError, match="late"), one.on(IMAGES.clone()):
        raise RuntimeError("late")
    with pytest.raises(UserError, match="images of 3x4 pixels"), one.on(IMAGES[..., :4, :3]):
        raise RuntimeError("small")


def test_what_is_raised_by_the_projects_own_code_is_its_own() -> None:
    with pytest.raises(AttributeError), passes().on(IMAGES):
        Ablation("x", "x", (None,), ()).to_dict()


class Queries(nn.Module):
    """Adds a table to its input, as many rows as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(4, 2))
        self.error: Exception | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.error:
            raise self.error
        return x + self.table


ONE = Ablation("x", "queries", (), (Removed("table", (1,)),))


def test_too_few_rows_are_told_where_all_rows_do() -> None:
    module = Queries()
    told = r"does not run with 3 of 4 rows of table \(The size of tensor a \(4\) must match"
    with pytest.raises(UserError, match=told), applied(module, ONE):
        module(torch.zeros(4, 2))
    assert module(torch.zeros(4, 2)).shape == (4, 2)


@pytest.mark.parametrize("error", [RuntimeError("bug"), *map(RuntimeError, DEVICE[1:])], ids=str)
def test_a_model_that_fails_with_all_rows_too_is_told_as_it_is(error: Exception) -> None:
    module = Queries()
    module.error = error
    with pytest.raises(RuntimeError) as found, applied(module, ONE):
        module(torch.zeros(3, 2))
    assert found.value is error


def test_a_device_that_fails_is_not_asked_again() -> None:
    class Recovering(Queries):
        def forward(self, x: Tensor) -> Tensor:
            error, self.error = self.error, None
            if error:
                raise error
            return x

    module = Recovering()
    module.error = RuntimeError(DEVICE[1])  # the second time it would run, with all rows
    with pytest.raises(RuntimeError, match=DEVICE[1]), applied(module, ONE):
        module(torch.zeros(4, 2))


def test_an_index_out_of_range_on_a_gpu_is_told_to_be_for_want_of_rows() -> None:
    module = Queries()

    def read() -> None:
        module(torch.zeros(3, 2))
        raise RuntimeError(DEVICE[0])  # a GPU tells it once its results are read

    told = "while 3 of 4 rows of table were there.* --device cpu tells for certain"
    with pytest.raises(UserError, match=told), applied(module, ONE):
        read()


def test_what_fails_beside_the_model_is_not_for_want_of_rows() -> None:
    module = Queries()

    def after_the_pass() -> None:
        assert module(torch.zeros(3, 2)).shape == (3, 2)
        raise IndexError("elsewhere")

    with pytest.raises(IndexError, match="elsewhere"), applied(module, ONE):
        after_the_pass()
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
