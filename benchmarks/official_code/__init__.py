"""Models that official repositories build, each beside its own evaluation."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from official_code import of_detr, of_rf_detr, of_rt_detr, of_toolboxes
from official_code.built import Official

FAMILIES: Mapping[str, Callable[[Path], Iterator[Official]]] = {
    "detr": of_detr.detr,
    "deformable": of_detr.deformable,
    "conditional": of_detr.conditional,
    "dab": of_detr.dab,
    "dino": of_detr.dino,
    "yolos": of_detr.yolos,
    "lwdetr": of_detr.lwdetr,
    "rtdetr": of_rt_detr.rtdetr,
    "dfine": of_rt_detr.dfine,
    "deim": of_rt_detr.deim,
    "rtdetrv4": of_rt_detr.rtdetrv4,
    "deimv2": of_rt_detr.deimv2,
    "rfdetr": of_rf_detr.rfdetr,
    "detrex": of_toolboxes.detrex,
    "codetr": of_toolboxes.co_detr,
}
