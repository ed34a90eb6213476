"""Decodes the bytes of elements that numpy has no type for: bfloat16 and the 8-bit floats."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Exponent bits, mantissa bits, exponent bias, and the bytes that stand for not-a-number and
# infinity, after the OCP 8-bit floating point specification and, for "fnuz", its variants without
# infinities and without a negative zero.
_FLOAT8 = {
    "float8_e4m3fn": (4, 3, 7, (0x7F, 0xFF), ()),
    "float8_e4m3fnuz": (4, 3, 8, (0x80,), ()),
    "float8_e5m2": (5, 2, 15, (0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF), (0x7C, 0xFC)),
    "float8_e5m2fnuz": (5, 2, 16, (0x80,), ()),
}


def decoded(bits: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The values of elements given as unsigned integers (or complex) of the same bytes.

    Floating types become float64, complex ones complex128, others themselves.
    """
    with np.errstate(invalid="ignore"):  # signaling NaN
        return _decoded(bits, dtype)


def _decoded(bits: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype == "complex32":
        return np.ascontiguousarray(bits).view(np.float16).astype(np.float64).view(np.complex128)
    if dtype in ("float8_e8m0fnu", *_FLOAT8):
        return _table(dtype)[bits]
    values = bits.view(np.dtype(dtype))
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return values.astype(np.complex128) if values.dtype.kind == "c" else values


@cache
def _table(dtype: str) -> NDArray[np.float64]:
    """The values of all 256 bytes."""
    if dtype == "float8_e8m0fnu":
        powers = np.ldexp(1.0, np.arange(256) - 127)
        powers[255] = np.nan
        return powers
    exponent_bits, mantissa_bits, bias, nans, infinities = _FLOAT8[dtype]
    codes = np.arange(256)
    mantissa = codes % 2**mantissa_bits
    exponent = codes >> mantissa_bits & 2**exponent_bits - 1
    normal = exponent > 0
    steps = np.where(normal, 2**mantissa_bits + mantissa, mantissa).astype(np.float64)
    values = np.ldexp(steps, np.where(normal, exponent, 1) - bias - mantissa_bits)
    values = np.where(codes >> 7, -values, values)
    values[list(nans)] = np.nan
    for code in infinities:
        values[code] = -np.inf if code >> 7 else np.inf
    return values
