"""The classes of networks that take an IP-Adapter. A new one is a file and a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenth.core.errors import ModelError
from tenth.models.adapters.networks.adapted_network import AdaptedNetwork
from tenth.models.adapters.networks.flux1 import FLUX1
from tenth.models.adapters.networks.flux2 import FLUX2
from tenth.models.adapters.networks.sd3 import SD3
from tenth.models.adapters.networks.unet import UNET

ADAPTED_NETWORKS: Mapping[str, AdaptedNetwork] = {
    "UNet2DConditionModel": UNET,
    "FluxTransformer2DModel": FLUX1,
    "SD3Transformer2DModel": SD3,
    "Flux2Transformer2DModel": FLUX2,
}


def adapted_network(network: Any) -> AdaptedNetwork:
    """The row of a network's class. Raises ModelError for a class into which no adapter goes."""
    name = type(network).__name__
    if name not in ADAPTED_NETWORKS:
        needed = f"one of {', '.join(ADAPTED_NETWORKS)} is needed"
        raise ModelError(f"an IP-Adapter for {name}", needed, "Choose a method without adapter, such as photos-in-context")
    return ADAPTED_NETWORKS[name]
