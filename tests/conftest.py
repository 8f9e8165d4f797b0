"""Checks every annotated shape while the tests run; must stand before any import of the project."""

from jaxtyping import install_import_hook

install_import_hook(["neural_tdc", "envs", "agents"], "beartype.beartype")

import torch  # noqa: E402

# The tensors of the tests are small: a second thread would cost more by waiting than it does.
torch.set_num_threads(1)
