"""Shared by all tests."""

import torch

# Tests compare small tensors; on a few cores threads only get in each other's way.
torch.set_num_threads(1)
