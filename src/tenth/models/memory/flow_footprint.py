"""Estimate the bytes that a transformer of flow matching needs while it draws, from configurations and headers of weight files.

Activations were counted tensor by tensor on networks of the published widths (benchmarks/activations.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.models.memory.footprint import WeightCounts, component_bytes, count_weights, positive_integers
from tenth.models.memory.profiles import FLOW_CPU_PROFILES, FLOW_GPU_PROFILES, MemoryProfile
from tenth.models.model_folder import invalid_model, read_config, weight_files

if TYPE_CHECKING:
    from tenth.models.memory.planner import LoadOptions

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
COMPONENTS = ("transformer", "vae", *TEXT_ENCODERS, "siglip", "image_encoder")
TOKEN_WIDTHS = 22.0  # numbers in memory for each token of a transformer, in its widths: the most of those counted
PROMPT_TOKENS = 512  # to which the families' pipelines pad or cut
MAX_PHOTO_SIDE = 1024  # pixels: of the square to whose area a photo in context is reduced
OFFLOADED_BLOCKS = 2  # the one that runs, and the next


@dataclass(frozen=True)
class FlowFootprint:
    """What the estimate depends on. Activations are counts of numbers that are in memory at the same time.

    token_pixels: side of the square of pixels that is a token. rows: predictions for each image of a step, 2 with guidance.
    """

    parts: Mapping[str, WeightCounts]
    image_size: int  # pixels along one side
    trained_weights: tuple[str, ...] = ("float32", "half", "int8", "nf4")  # of which low-rank matrices are trained beside
    token_pixels: int = 16
    rows: int = 2
    token_activations: float = 0.0  # of the transformer, per token
    text_activations: float = 0.0  # of the text encoder, per token
    vae_activations: float = 0.0  # per pixel

    @property
    def num_weights(self) -> int:
        """All weights of all parts."""
        return sum(part.total for part in self.parts.values())

    def profiles(self, device: str) -> Sequence[MemoryProfile]:
        """The ways to hold the model on a device."""
        return FLOW_CPU_PROFILES if device == "cpu" else FLOW_GPU_PROFILES

    def required_bytes(self, profile: MemoryProfile, options: LoadOptions, device: str = "cpu") -> int:
        """Free bytes that a profile needs at the worst moment: when prompts are encoded, in a step, or when images are decoded.

        Without what the libraries themselves take.
        """
        on_cpu = device == "cpu"
        weights = {name: component_bytes(name, part, profile, on_cpu) for name, part in self.parts.items()}
        if on_cpu and profile.weights == "half":  # the pages of what became float32, in files that stay mapped
            weights |= {name: weights[name] + 2 * part.others for name, part in self.parts.items() if part.dtype != "F32"}
        if profile.cpu_offload:  # of each part the blocks that run
            weights = {name: min(size, self._onloaded_bytes(name)) for name, size in weights.items()}
        text = sum(size for name, size in weights.items() if name in TEXT_ENCODERS)
        others = sum(weights.values()) - text

        # A text encoder that is freed: on a GPU it and the transformer are there in turn; on a CPU all others stay.
        activations = self.activation_bytes(profile, options, device)
        encoding, drawing = activations["text_encoder"], max(activations["transformer"], activations["vae"])
        if not profile.frees_text_encoder:
            return text + others + max(encoding, drawing)
        beside_text = others if on_cpu or profile.cpu_offload else others - weights["transformer"]
        return max(text + beside_text + encoding, others + drawing)

    def activation_bytes(self, profile: MemoryProfile, options: LoadOptions, device: str = "cpu") -> dict[str, int]:
        """Bytes beside the weights, by the part that runs: activations, and the copy of a layer's weights for computing."""
        computes_float32 = device == "cpu" or profile.weights == "float32"
        size = 4 if computes_float32 else 2
        batch, side = min(options.batch_size, profile.batch_size), options.image_size or self.image_size

        # Transformer: the tokens of image, text and photos in context.
        photo = min(side, MAX_PHOTO_SIDE)
        tokens = ceil(side / self.token_pixels) ** 2 + PROMPT_TOKENS
        tokens += options.context_photos * ceil(photo / self.token_pixels) ** 2
        transformer = batch * self.rows * tokens * self.token_activations

        # Text encoder: one prompt at a time. Autoencoder: the images of a batch, or one tile; a photo in context is as large.
        text = PROMPT_TOKENS * self.text_activations
        decoded, decoded_side = (1, side // 2) if profile.vae_tiling else (batch, side)
        vae = decoded * decoded_side**2 * self.vae_activations + batch * 3 * side**2
        if options.context_photos:
            vae = max(vae, photo**2 * self.vae_activations)

        numbers = {"transformer": transformer, "text_encoder": text, "vae": vae}
        copies = {name: self._copied(name, profile, device) for name in numbers}
        return {name: round(size * (count + copies[name])) for name, count in numbers.items()}

    def offloaded_bytes(self, profile: MemoryProfile) -> int:
        """Bytes of weights that are on the CPU while a GPU draws."""
        if not (profile.cpu_offload or profile.frees_text_encoder):
            return 0
        return sum(component_bytes(name, part, profile, keep_float32=False) for name, part in self.parts.items())

    def _copied(self, name: str, profile: MemoryProfile, device: str) -> int:
        """Numbers in a copy of the largest layer's weights, of a part whose weights are stored in fewer bits than computed."""
        stored_as_computed = profile.weights == "float32" or (profile.weights == "half" and device != "cpu") or name == "vae"
        largest = [part.largest for part_name, part in self.parts.items() if part_name.startswith(name)]
        return 0 if stored_as_computed else max(largest, default=0)

    def _onloaded_bytes(self, name: str) -> int:
        """Bytes of a part's 16-bit weights that are on the GPU, where these are copied block by block."""
        part = self.parts[name]
        return 2 * max(OFFLOADED_BLOCKS * part.largest_block, part.largest) if part.largest_block else 2 * part.total


def read_flow_footprint(folder: Path, image_size: int, *, rows: int = 2, token_widths: float = TOKEN_WIDTHS) -> FlowFootprint:
    """The footprint of a folder in diffusers' layout. image_size: side in pixels of the square that the model draws by default.

    rows: as of `FlowFootprint`. token_widths: as TOKEN_WIDTHS, of the family. Raises ModelError.
    """
    names = [name for name in COMPONENTS if (folder / name).is_dir()]
    configs = {name: read_config(folder / name / "config.json") for name in names}
    parts = {name: count_weights(weight_files(folder / name)) for name in names}
    try:
        return compute_flow_footprint(configs, parts, image_size, rows=rows, token_widths=token_widths)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as problem:
        raise invalid_model(folder / "transformer/config.json or vae/config.json", f"cannot be read: {problem}") from problem


def compute_flow_footprint(
    configs: Mapping[str, Mapping[str, Any]],
    parts: Mapping[str, WeightCounts],
    image_size: int,
    *,
    rows: int = 2,
    token_widths: float = TOKEN_WIDTHS,
) -> FlowFootprint:
    """The footprint from the configurations and the weight counts of the parts, by name.

    Raises LookupError, TypeError or ValueError for a configuration that no such network has.
    """
    # Transformer: its width, as one number or as heads times their size, and the latents along one side of a token.
    transformer = configs["transformer"]
    if "dim" in transformer:
        (width,) = positive_integers([transformer["dim"]])
    else:
        heads, head_size = positive_integers([transformer["num_attention_heads"], transformer["attention_head_dim"]])
        width = heads * head_size

    # Autoencoder: as of Stable Diffusion's (footprint.py); Qwen's has a third axis, and 18 x its first width for each pixel.
    vae = configs["vae"]
    if "block_out_channels" in vae:
        widths = positive_integers(vae["block_out_channels"])
        vae_activations = max(5 * widths[0], 3 * widths[min(1, len(widths) - 1)])
    else:
        widths = positive_integers([vae["base_dim"], *vae["dim_mult"]])[1:]
        vae_activations = 18 * int(vae["base_dim"])

    texts = [text_activations(configs[name]) for name in TEXT_ENCODERS if name in configs]
    return FlowFootprint(
        parts=parts,
        image_size=image_size,
        token_pixels=2 * 2 ** (len(widths) - 1),
        rows=rows,
        token_activations=token_widths * width,
        text_activations=max(texts, default=0.0),
        vae_activations=vae_activations,
    )


def text_activations(config: Mapping[str, Any]) -> float:
    """Numbers in memory for each token of a text encoder: the results of all its layers, which are kept, and one layer's own.

    A causal language model also gives a number for each word that it knows, and T5 has all products of two tokens.
    Raises LookupError, TypeError or ValueError for a configuration of no text encoder.
    """
    inner = config.get("text_config")
    config = {**config, **inner} if isinstance(inner, Mapping) else config
    names = (("hidden_size", "d_model"), ("num_hidden_layers", "num_layers"), ("intermediate_size", "d_ff"))
    hidden, layers, wide = positive_integers([next(config[name] for name in each if name in config) for each in names])
    own = [3.3 * wide]
    if any("ForCausalLM" in name or "ForConditionalGeneration" in name for name in config.get("architectures") or ()):
        own.append(positive_integers([config["vocab_size"]])[0])
    if config.get("model_type") == "t5":
        own.append(3 * PROMPT_TOKENS * positive_integers([config["num_heads"]])[0] + 2 * hidden)
    return (layers + 1) * hidden + max(own)
