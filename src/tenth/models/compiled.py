"""UNet and decoder compiled for CPUs by OpenVINO (the extra `fast`): converted once, and kept in the cache."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenth.core.cache_contents import mark_used
from tenth.core.errors import DataError, ModelError, unknown_name
from tenth.core.files.writing import PRIVATE_FOLDER_MODE, atomic_folder
from tenth.core.optional_packages import import_openvino, openvino_core
from tenth.models.adapters.networks.unet import cross_attention_layers
from tenth.models.denoiser import Conditioning, predict
from tenth.models.latents import from_unet_scale
from tenth.models.memory.planner import BACKEND_VARIABLE
from tenth.models.prompt_encoder import PromptEmbeddings

BACKENDS = ("torch", "openvino")
PACKAGES = ("openvino", "torch", "diffusers")  # whose versions are part of what a converted network is made of
FORMAT = "1"  # changes when the inputs of the networks below do
NETWORK_FILE = "network.xml"
MAX_COMPILED = 8  # shapes that are kept compiled; each takes about half a second again, and memory for its activations
SHARED = ("scales",)  # inputs that all rows share
PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}


def is_available() -> bool:
    """Whether OpenVINO is installed. Nothing is imported."""
    return find_spec("openvino") is not None


def choose_backend(name: str, device: str, *, small: bool) -> str:
    """The named backend; without a name, the quicker one: openvino for a small model on the CPU, if it is installed.

    Raises InputError for an unknown name, ModelError if it is not installed or not for this device.
    """
    if not name:
        return "openvino" if small and device == "cpu" and is_available() else "torch"
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS, f"Correct --backend or {BACKEND_VARIABLE}")
    if name == "openvino" and device != "cpu":
        raise ModelError(f"the backend openvino on {device}", "it computes on CPUs", "Choose --device cpu, or leave it out")
    if name == "openvino" and not is_available():
        needed = "the backend openvino needs it"
        raise ModelError("OpenVINO is not installed", needed, "Install the extra: pip install 'tenth[fast]'")
    return name


class CompiledNetworks:
    """The UNet and the decoder of a pipeline on the CPU, as its weights were when they were first converted.

    name: "name@digest" over the weights. directory: where converted networks are kept, a folder each.
    """

    def __init__(self, pipeline: Any, name: str, directory: Path) -> None:
        self.pipeline, self.name, self.directory = pipeline, name, directory
        # Requests of a network by its part, precision and shapes: fixed ones take a tenth less time.
        self._compiled: dict[tuple[Any, ...], list[Any]] = {}

    def precision(self, wanted: str) -> str:
        """Which of fp32 and bf16. wanted: one of these, or "auto": bf16 where the processor computes in it."""
        if wanted != "auto":
            return wanted
        return "bf16" if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"

    def predict(self, adapter: str, precision: str, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """As `denoiser.predict`. adapter: the "name@digest" of the one that is in the UNet; "" without one."""
        unet = self.pipeline.unet
        inputs = {"latents": latents, "timesteps": timesteps.float(), "hidden": conditioning.prompts.hidden}
        optional = {
            "pooled": conditioning.prompts.pooled,
            "time_ids": conditioning.time_ids,
            "image_embeddings": conditioning.image_embeddings,
            "scales": None if conditioning.image_embeddings is None else adapter_scales(unet),
            "timestep_cond": conditioning.timestep_cond,
        }
        inputs |= {name: value for name, value in optional.items() if value is not None}
        return self._run(f"unet {adapter}", precision, _UNet(unet, tuple(inputs)), inputs)

    def decode(self, precision: str, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) in the UNet's scale -> (B, 3, H, W), about [-1, 1]."""
        return self._run("decoder", precision, _Decoder(self.pipeline.vae), {"latents": latents})

    @torch.no_grad()
    def _run(self, part: str, precision: str, module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        # The rows in parts of equal size, each computed by threads of its own: none waits for the others after each layer.
        streams = math.gcd(len(inputs["latents"]), torch.get_num_threads())
        columns = [
            [value] * streams if name in SHARED or value.ndim == 0 else value.chunk(streams) for name, value in inputs.items()
        ]
        parts = [dict(zip(inputs, values, strict=True)) for values in zip(*columns, strict=True)]

        # The network, compiled for this shape.
        part = f"{part} {' '.join(inputs)}"
        key = (part, precision, streams, *(tuple(value.shape) for value in parts[0].values()))
        if key not in self._compiled:
            while len(self._compiled) >= MAX_COMPILED:
                del self._compiled[next(iter(self._compiled))]
            network = self._compile(part, precision, streams, module, parts[0])
            self._compiled[key] = [network.create_infer_request() for _ in parts]

        # All parts at once.
        for request, values in zip(self._compiled[key], parts, strict=True):
            request.start_async([value.float().contiguous().numpy() for value in values.values()], share_inputs=True)
        for request in self._compiled[key]:
            request.wait()
        return torch.cat([torch.from_numpy(request.get_output_tensor(0).data) for request in self._compiled[key]])

    def _compile(self, part: str, precision: str, streams: int, module: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
        """The network from the cache; converted, if it is not there or cannot be read. streams: requests it takes at once."""
        # What the weights do not tell is in the configurations.
        configs = (getattr(self.pipeline, component).config.items() for component in ("unet", "vae"))
        settings_of = [repr(sorted((key, repr(value)) for key, value in config if key[0] != "_")) for config in configs]
        made_of = [FORMAT, self.name, part, *settings_of, *(f"{package} {version(package)}" for package in PACKAGES)]
        folder = self.directory / hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:32]
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": streams,
        }
        network = self._cached(folder)
        if network is None:
            network = convert(module, inputs)
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                with atomic_folder(folder, PRIVATE_FOLDER_MODE) as new:
                    import_openvino().save_model(network, new / NETWORK_FILE, compress_to_fp16=False)
            except (DataError, OSError):
                pass  # no room, say: it is converted again next time
        network.reshape({number: list(value.shape) for number, value in enumerate(inputs.values())})
        return openvino_core().compile_model(network, "CPU", settings)

    def _cached(self, folder: Path) -> Any:
        """A converted network; None if it is not there, or damaged: then it is converted again, and replaced."""
        mark_used(folder / NETWORK_FILE)
        try:
            return openvino_core().read_model(folder / NETWORK_FILE) if (folder / NETWORK_FILE).is_file() else None
        except RuntimeError:
            return None


def convert(module: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """A network of OpenVINO that computes what a module does, for batches and prompts of any length."""
    with warnings.catch_warnings(), scales_kept(module):
        # Tracing warns that it takes Python's branches as for the example, whose scales are 1: layers of scale 0 are left out.
        warnings.simplefilter("ignore")
        example = tuple(torch.ones_like(value) if name == "scales" else value for name, value in inputs.items())
        return import_openvino().convert_model(module.eval(), example_input=example)


class _UNet(nn.Module):
    """A UNet whose inputs are all tensors. names: which of them it is called with, in this order."""

    def __init__(self, unet: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.unet, self.names = unet, names

    def forward(self, *values: Tensor) -> Tensor:
        given = dict(zip(self.names, values, strict=True))
        if "scales" in given:
            processors = self.unet.attn_processors
            for index, (_, name, _) in enumerate(cross_attention_layers(self.unet)):
                processors[name].scale = [given["scales"][index]]
        conditioning = Conditioning(
            PromptEmbeddings(given["hidden"], given.get("pooled")),
            given.get("image_embeddings"),
            given.get("time_ids"),
            given.get("timestep_cond"),
        )
        return predict(self.unet, given["latents"], given["timesteps"], conditioning)


class _Decoder(nn.Module):
    """An autoencoder's decoder, from the UNet's scale."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.vae.decode(from_unet_scale(self.vae, latents), return_dict=False)[0]
        return pixels


def adapter_scales(unet: Any) -> Tensor:
    """The scale of each of the installed adapter's layers, (L,)."""
    processors = unet.attn_processors  # which looks at every module
    return torch.tensor([float(processors[name].scale[0]) for _, name, _ in cross_attention_layers(unet)])


@contextmanager
def scales_kept(module: nn.Module) -> Iterator[None]:
    """Adapter scales are as before when the block ends."""
    unet = getattr(module, "unet", None)
    processors = {} if unet is None else unet.attn_processors
    before = [(processor, processor.scale) for processor in processors.values() if hasattr(processor, "scale")]
    try:
        yield
    finally:
        for processor, scale in before:
            processor.scale = scale
