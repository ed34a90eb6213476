"""Operations without weights, in PyTorch: any device, any floating dtype, differentiable."""
