"""The IP-Adapters of a model: their weights are in memory, and one is in the network while an identity is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tenth.core.errors import IdentityError
from tenth.core.types import Encoder, Identity
from tenth.models.adapters.ip_adapter import (
    ADAPTER_FILE,
    ImageConditioning,
    adapter_name,
    install_ip_adapter,
    load_ip_adapter,
    validate_ip_adapter,
)


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter whose weights are in memory."""

    path: Path
    conditioning: ImageConditioning


class ModelAdapters(Mapping[str, LoadedAdapter]):
    """Loaded adapters of a network, by "name@digest".

    trained_methods: folders with an aggregator, and perhaps an adapter, trained for this model, by method. place: moves an
    adapter's layers to where the network computes.
    """

    def __init__(self, network: Any, trained_methods: Mapping[str, Path], place: Callable[[ImageConditioning], None]) -> None:
        self.network, self.trained_methods, self.place = network, trained_methods, place
        self.applied = ""  # the name of the one that is in the network
        self._loaded: dict[str, LoadedAdapter] = {}

    def __getitem__(self, name: str) -> LoadedAdapter:
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)

    @cached_property
    def trained(self) -> Mapping[str, Path]:
        """Adapters of trained methods by "name@digest", whether loaded or not. The files are read once, for their digests."""
        paths = [folder / ADAPTER_FILE for folder in self.trained_methods.values()]
        return {adapter_name(path): path for path in paths if path.is_file()}

    def add(self, path: Path, encoder: Encoder, *, keep_half: bool = False) -> str:
        """Load an adapter that reads an encoder's embeddings, unless it is loaded. Gives its "name@digest".

        keep_half: in the file's types, memory-mapped.

        Raises ModelError if it cannot be read, or is not whole and made for the encoder and the network, to the last shape.
        """
        name = adapter_name(path)
        if name in self._loaded:
            return name
        parts = load_ip_adapter(path, as_float32=not keep_half)
        validate_ip_adapter(self.network, parts, encoder, path)

        # The modules are built in the network and taken out again.
        before = ImageConditioning.of(self.network)
        install_ip_adapter(self.network, parts, share_memory=keep_half)
        adapter = LoadedAdapter(path, ImageConditioning.of(self.network))
        before.put_into(self.network)
        self.place(adapter.conditioning)
        self._loaded[name] = adapter
        return name

    @contextmanager
    def in_network(self, name: str) -> Iterator[None]:
        """A loaded adapter in the network, until the block ends; then the network is as before."""
        before, applied_before = ImageConditioning.of(self.network), self.applied
        conditioning = self[name].conditioning
        if next(conditioning.projection.parameters()).device != next(self.network.parameters()).device:
            self.place(conditioning)  # the network was moved since, to train on an accelerator
        conditioning.put_into(self.network)
        self.applied = name
        try:
            yield
        finally:
            before.put_into(self.network)
            self.applied = applied_before

    def validate(self, identity: Identity, encoder: Encoder) -> None:
        """Raises IdentityError if an identity with embeddings was made for another encoder or adapter. Loads nothing.

        Adapters of methods that were trained for the model count as its own, whether they are loaded or not.
        """
        if identity.embeddings is None:
            return
        names = list(self._loaded)
        if identity.adapter not in names:
            names += [name for name in self.trained if name not in names]
        check_made_for("encoder", identity.encoder, [encoder.name])
        check_made_for("adapter", identity.adapter, names)
        num_tokens, embedding_dim = encoder.num_tokens, encoder.embedding_dim
        expected_shape = (num_tokens, embedding_dim) if num_tokens else (embedding_dim,)
        if identity.embeddings.shape[1:] != expected_shape:
            raise IdentityError(
                f"this identity has embeddings of shape {tuple(identity.embeddings.shape)}",
                f"{encoder.name} gives {' x '.join(map(str, expected_shape))} for each photo",
                "Make it again from the photos",
            )


@dataclass(frozen=True, eq=False)
class LoadedAdapters:
    """A model's image encoder and the adapters that read it. default: "name@digest" of the model's own, "" if there is none."""

    encoder: Encoder
    adapters: ModelAdapters
    default: str = ""


def check_made_for(kind: str, made_for: str, names: list[str]) -> None:
    """Raises IdentityError unless what an identity was made for, of a kind such as "model", is one of the names in use."""
    if made_for not in names:
        raise IdentityError(
            f"this identity was made for {kind} {made_for}",
            f"the {kind} in use is {' or '.join(names) or 'none'}",
            "Make it again from the photos, or choose that model, its --adapter, or the folder of that method",
        )
