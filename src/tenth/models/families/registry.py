"""Every family of transformers by name. A new family is one file and one row."""

from __future__ import annotations

from collections.abc import Mapping

from tenth.models.families.family import TransformerFamily
from tenth.models.families.flux1 import FLUX1
from tenth.models.families.flux2_klein import FLUX2_KLEIN
from tenth.models.families.qwen_image_edit import QWEN_IMAGE_EDIT
from tenth.models.families.sd3 import SD3
from tenth.models.families.z_image import Z_IMAGE, Z_IMAGE_OMNI

FAMILIES: Mapping[str, TransformerFamily] = {
    "flux2-klein": FLUX2_KLEIN,
    "flux1": FLUX1,
    "sd3": SD3,
    "qwen-image-edit": QWEN_IMAGE_EDIT,
    "z-image": Z_IMAGE,
    "z-image-omni": Z_IMAGE_OMNI,
}


def family_of(pipeline_class: str) -> TransformerFamily | None:
    """The family whose pipeline a model_index.json names, if it is known."""
    return next((family for family in FAMILIES.values() if family.pipeline_class == pipeline_class), None)
