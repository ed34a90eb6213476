"""Element types by the name torch gives them, without torch."""

from detector.disk.safetensors_head import CODES

ITEM_SIZES = dict(CODES.values()) | {"complex32": 4, "complex128": 16}
"""Bytes of one element."""

SAFETENSORS_CODES = {code: kind for code, (kind, _) in CODES.items()}

TORCH_STORAGES = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    # Bytes without a type of their own; the tensor that is rebuilt on them names its type.
    "UntypedStorage": "uint8",
}
"""torch's storage classes. Quantized storages have no entry: their bytes alone are not values."""

QUANTIZED_STORAGES = {
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
}
"""Bytes of one element of each: what lies behind them in a file can be found."""
