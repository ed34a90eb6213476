"""The bytes of a tensor's elements in row-major order, wherever and however they lie."""

import hashlib

import torch
from torch import Tensor


def flat_bytes(tensor: Tensor) -> Tensor:
    """(n,) uint8, on the tensor's device."""
    flat = tensor.detach().contiguous().reshape(-1)
    # A slice of one element is contiguous whatever its stride, with which it has no other view.
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)


def bytes_of(tensor: Tensor) -> memoryview:
    """In this machine's memory; shares that of a contiguous tensor that is there."""
    values: memoryview = flat_bytes(tensor).cpu().numpy().data
    return values


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of the type, the shape and the bytes, in hexadecimal."""
    hashed = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    hashed.update(bytes_of(tensor))
    return hashed.hexdigest()
