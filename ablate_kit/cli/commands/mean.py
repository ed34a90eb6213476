"""``ablate mean``: heads and channels replaced by their mean over reference images."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.cli.common_options import NumHeads
from ablate_kit.cli.copy_options import CopyOptions, Folder, SourceArgument
from ablate_kit.cli.dataset_options import Images
from ablate_kit.cli.early import check_files, check_there
from ablate_kit.cli.model_options import ClassNames, Model, Trust
from ablate_kit.cli.number_lists import spans_of
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from ablate_kit.ablations.kinds.kind import Kind
    from ablate_kit.models.adapter import Adapter


@dataclass(frozen=True, kw_only=True)
class MeanImages(Images):
    limit: Annotated[int | None, Option(help="How many images the mean is taken over.", min=1)] = 32


def mean(
    checkpoint: SourceArgument,
    pattern: Annotated[
        str, Argument(help="Attention modules; with --channels, modules with a bias.")
    ],
    output: Folder,
    *,
    heads: Annotated[
        str | None, Option("--heads", help="These heads of every module, one by one: 0,3.")
    ] = None,
    each: Annotated[bool, Option("--each", help="Every head, one by one.")] = False,
    channels: Annotated[
        str | None, Option(help="Output channels of every module, together: 0,3-5.")
    ] = None,
    data: MeanImages,
    model: Model = None,
    class_names: ClassNames = None,
    trust_remote_code: Trust = False,
    num_heads: NumHeads = None,
    copies: CopyOptions,
) -> None:
    """Replace heads or channels by their mean over images: it is folded into biases."""
    check_there(checkpoint)
    check_files(class_names)
    if sum((heads is not None, each, channels is not None)) != 1:
        raise UserError("give one of --heads, --each and --channels")
    if channels is not None and num_heads is not None:
        raise UserError("--num-heads has no effect on --channels, which are of no head")
    from ablate_kit.ablations.kinds.kind import KindContext
    from ablate_kit.ablations.kinds.means import Channels, HeadsMean
    from ablate_kit.models.opening.framework_registry import anatomy_of
    from ablate_kit.models.opening.open import open_adapter
    from ablate_kit.sweeps.recipes.reference_images import ReferenceImages

    dataset = data.open()
    kind: Kind
    if channels is None:
        kind = HeadsMean(
            pattern=pattern,
            num_heads=num_heads,
            heads=spans_of(heads, "--heads"),
            images=len(dataset),
        )
    else:
        chosen = spans_of(channels, "--channels")
        kind = Channels(
            pattern=[pattern], channels=chosen, together=True, to="mean", images=len(dataset)
        )
    with copies.open(checkpoint) as opened:

        @cache
        def adapter() -> "Adapter":
            return open_adapter(
                opened, model, trust_remote_code=trust_remote_code, class_names=class_names
            )

        def reference() -> ReferenceImages:
            return ReferenceImages(adapter(), dataset)

        source = KindContext(opened, reference, adapter, anatomy=anatomy_of(opened, model))
        copies.write(opened, kind.make(source), output)
