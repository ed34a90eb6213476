"""Which extra of the distribution brings a package that is not installed.

A leaf. The light core reads, cuts and compares checkpoints; everything else is asked for by name,
and told by name where it is missing.
"""

from detector.errors import UserError

_DATA = ("PIL", "pydantic")
_SCORE = (
    *_DATA,
    *("hotcoco", "jinja2", "matplotlib", "pandas", "pycocotools", "safetensors", "scipy"),
)
_EVAL = (*_SCORE, "torch")

# The modules that each extra of pyproject.toml brings, the smaller extras first.
EXTRAS: dict[str, tuple[str, ...]] = {
    "data": _DATA,
    "score": _SCORE,
    "eval": _EVAL,
    "train": _EVAL,
    "transformers": (*_EVAL, "transformers", "huggingface_hub"),
    "mmdet": (*_EVAL, "mmdet", "mmengine", "mmcv"),
    "torchvision": (*_EVAL, "torchvision"),
    "libreyolo": (*_EVAL, "libreyolo"),
    "imagenet": (*_EVAL, "datasets"),
    "ray": (*_EVAL, "ray"),
    "tensorboard": (*_EVAL, "tensorboard"),
    "wandb": (*_EVAL, "wandb"),
    "mlflow": (*_EVAL, "mlflow", "alembic", "sqlalchemy"),
    "fast": (*_SCORE, "numba"),
    "parquet": (*_SCORE, "pyarrow"),
    "kernels": (*_EVAL, "natten", "DCNv4"),
}


class MissingPackageError(UserError, ImportError):
    """A package that an extra brings is not installed; one line names both."""


def missing(what: str, module: str, extra: str | None = None) -> MissingPackageError:
    """``what`` needs a module that is not there: that of ``extra``, or the smallest that has it."""
    package = module.partition(".")[0]
    name = extra or extra_of(package)
    said = f'pip install "ablate-kit[{name}]"' if name else f"pip install {package}"
    return MissingPackageError(f"{what} needs {package}, which is not installed: {said}")


def extra_of(module: str | None, wanted: str | None = None) -> str | None:
    """The extra that brings a module: ``wanted`` where that does, else the smallest; or None."""
    package = (module or "").partition(".")[0]
    if wanted and package in EXTRAS[wanted]:
        return wanted
    return next((name for name, modules in EXTRAS.items() if package in modules), None)
