"""The names of the published LoRA formats, written down: what other programs look up, whatever library is installed here.

Left the name in a file of kohya's trainer, right the name in one of diffusers. Sources: kohya-ss/sd-scripts, networks/lora.py
(192 layers of a UNet and 72 of a text encoder for Stable Diffusion 1.5; 722, 72 and 192 for SDXL, whose UNet it names as the
authors' code does); ComfyUI, comfy/lora.py; AUTOMATIC1111, extensions-builtin/Lora/networks.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

BLOCK = {
    "attn1_to_q": "attn1.to_q",
    "attn1_to_k": "attn1.to_k",
    "attn1_to_v": "attn1.to_v",
    "attn1_to_out_0": "attn1.to_out.0",
    "attn2_to_q": "attn2.to_q",
    "attn2_to_k": "attn2.to_k",
    "attn2_to_v": "attn2.to_v",
    "attn2_to_out_0": "attn2.to_out.0",
    "ff_net_0_proj": "ff.net.0.proj",
    "ff_net_2": "ff.net.2",
}
SD15_BLOCKS = {
    "down_blocks_0_attentions_0": ("down_blocks.0.attentions.0", 1),
    "down_blocks_0_attentions_1": ("down_blocks.0.attentions.1", 1),
    "down_blocks_1_attentions_0": ("down_blocks.1.attentions.0", 1),
    "down_blocks_1_attentions_1": ("down_blocks.1.attentions.1", 1),
    "down_blocks_2_attentions_0": ("down_blocks.2.attentions.0", 1),
    "down_blocks_2_attentions_1": ("down_blocks.2.attentions.1", 1),
    "mid_block_attentions_0": ("mid_block.attentions.0", 1),
    "up_blocks_1_attentions_0": ("up_blocks.1.attentions.0", 1),
    "up_blocks_1_attentions_1": ("up_blocks.1.attentions.1", 1),
    "up_blocks_1_attentions_2": ("up_blocks.1.attentions.2", 1),
    "up_blocks_2_attentions_0": ("up_blocks.2.attentions.0", 1),
    "up_blocks_2_attentions_1": ("up_blocks.2.attentions.1", 1),
    "up_blocks_2_attentions_2": ("up_blocks.2.attentions.2", 1),
    "up_blocks_3_attentions_0": ("up_blocks.3.attentions.0", 1),
    "up_blocks_3_attentions_1": ("up_blocks.3.attentions.1", 1),
    "up_blocks_3_attentions_2": ("up_blocks.3.attentions.2", 1),
}
SDXL_BLOCKS = {  # as diffusers counts them, which ComfyUI and A1111 look up too
    "down_blocks_1_attentions_0": ("down_blocks.1.attentions.0", 2),
    "down_blocks_1_attentions_1": ("down_blocks.1.attentions.1", 2),
    "down_blocks_2_attentions_0": ("down_blocks.2.attentions.0", 10),
    "down_blocks_2_attentions_1": ("down_blocks.2.attentions.1", 10),
    "mid_block_attentions_0": ("mid_block.attentions.0", 10),
    "up_blocks_0_attentions_0": ("up_blocks.0.attentions.0", 10),
    "up_blocks_0_attentions_1": ("up_blocks.0.attentions.1", 10),
    "up_blocks_0_attentions_2": ("up_blocks.0.attentions.2", 10),
    "up_blocks_1_attentions_0": ("up_blocks.1.attentions.0", 2),
    "up_blocks_1_attentions_1": ("up_blocks.1.attentions.1", 2),
    "up_blocks_1_attentions_2": ("up_blocks.1.attentions.2", 2),
}
SDXL_ORIGINAL_BLOCKS = {  # as kohya's trainer writes them
    "input_blocks_4_1": ("down_blocks.1.attentions.0", 2),
    "input_blocks_5_1": ("down_blocks.1.attentions.1", 2),
    "input_blocks_7_1": ("down_blocks.2.attentions.0", 10),
    "input_blocks_8_1": ("down_blocks.2.attentions.1", 10),
    "middle_block_1": ("mid_block.attentions.0", 10),
    "output_blocks_0_1": ("up_blocks.0.attentions.0", 10),
    "output_blocks_1_1": ("up_blocks.0.attentions.1", 10),
    "output_blocks_2_1": ("up_blocks.0.attentions.2", 10),
    "output_blocks_3_1": ("up_blocks.1.attentions.0", 2),
    "output_blocks_4_1": ("up_blocks.1.attentions.1", 2),
    "output_blocks_5_1": ("up_blocks.1.attentions.2", 2),
}
TEXT_LAYER = {
    "self_attn_q_proj": "self_attn.q_proj",
    "self_attn_k_proj": "self_attn.k_proj",
    "self_attn_v_proj": "self_attn.v_proj",
    "self_attn_out_proj": "self_attn.out_proj",
    "mlp_fc1": "mlp.fc1",
    "mlp_fc2": "mlp.fc2",
}
# Of LyCORIS' LoCon and of LCM's LoRA: everything but the attention, a few of each kind.
SD15_OTHERS = {
    "lora_unet_conv_in": "unet.conv_in",
    "lora_unet_conv_out": "unet.conv_out",
    "lora_unet_time_embedding_linear_1": "unet.time_embedding.linear_1",
    "lora_unet_down_blocks_0_resnets_0_conv1": "unet.down_blocks.0.resnets.0.conv1",
    "lora_unet_down_blocks_1_resnets_0_conv_shortcut": "unet.down_blocks.1.resnets.0.conv_shortcut",
    "lora_unet_down_blocks_2_resnets_1_time_emb_proj": "unet.down_blocks.2.resnets.1.time_emb_proj",
    "lora_unet_down_blocks_0_downsamplers_0_conv": "unet.down_blocks.0.downsamplers.0.conv",
    "lora_unet_mid_block_resnets_1_conv2": "unet.mid_block.resnets.1.conv2",
    "lora_unet_up_blocks_0_upsamplers_0_conv": "unet.up_blocks.0.upsamplers.0.conv",
    "lora_unet_up_blocks_3_resnets_2_conv2": "unet.up_blocks.3.resnets.2.conv2",
    # The same model by the names of the authors' code.
    "lora_unet_input_blocks_3_0_op": "unet.down_blocks.0.downsamplers.0.conv",
    "lora_unet_output_blocks_2_1_conv": "unet.up_blocks.0.upsamplers.0.conv",
    "lora_unet_output_blocks_5_2_conv": "unet.up_blocks.1.upsamplers.0.conv",
    "lora_unet_output_blocks_11_0_out_layers_3": "unet.up_blocks.3.resnets.2.conv2",
}
SDXL_OTHERS = {
    "lora_unet_input_blocks_0_0": "unet.conv_in",
    "lora_unet_out_2": "unet.conv_out",
    "lora_unet_time_embed_0": "unet.time_embedding.linear_1",
    "lora_unet_time_embed_2": "unet.time_embedding.linear_2",
    "lora_unet_label_emb_0_0": "unet.add_embedding.linear_1",
    "lora_unet_label_emb_0_2": "unet.add_embedding.linear_2",
    "lora_unet_input_blocks_1_0_in_layers_2": "unet.down_blocks.0.resnets.0.conv1",
    "lora_unet_input_blocks_2_0_emb_layers_1": "unet.down_blocks.0.resnets.1.time_emb_proj",
    "lora_unet_input_blocks_3_0_op": "unet.down_blocks.0.downsamplers.0.conv",
    "lora_unet_input_blocks_4_0_skip_connection": "unet.down_blocks.1.resnets.0.conv_shortcut",
    "lora_unet_middle_block_0_out_layers_3": "unet.mid_block.resnets.0.conv2",
    "lora_unet_middle_block_2_in_layers_2": "unet.mid_block.resnets.1.conv1",
    "lora_unet_output_blocks_2_2_conv": "unet.up_blocks.0.upsamplers.0.conv",
    "lora_unet_output_blocks_8_0_out_layers_3": "unet.up_blocks.2.resnets.2.conv2",
    "lora_unet_up_blocks_2_resnets_2_conv2": "unet.up_blocks.2.resnets.2.conv2",
    "lora_te2_text_projection": "text_encoder_2.text_projection",
}


def unet(blocks: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    names = {}
    for kohya, (diffusers, depth) in blocks.items():
        names |= {f"lora_unet_{kohya}_{end}": f"unet.{diffusers}.{end}" for end in ("proj_in", "proj_out")}
        for number in range(depth):
            for flat, dotted in BLOCK.items():
                key = f"lora_unet_{kohya}_transformer_blocks_{number}_{flat}"
                names[key] = f"unet.{diffusers}.transformer_blocks.{number}.{dotted}"
    return names


def text_encoder(kohya: str, diffusers: str, layers: Iterable[int]) -> dict[str, str]:
    return {
        f"{kohya}_text_model_encoder_layers_{layer}_{flat}": f"{diffusers}.text_model.encoder.layers.{layer}.{dotted}"
        for layer in layers
        for flat, dotted in TEXT_LAYER.items()
    }


SD15 = unet(SD15_BLOCKS) | text_encoder("lora_te", "text_encoder", range(12))
SDXL_TEXT = text_encoder("lora_te1", "text_encoder", range(12)) | text_encoder("lora_te2", "text_encoder_2", range(32))
SDXL = unet(SDXL_BLOCKS) | SDXL_TEXT
SDXL_ORIGINAL = unet(SDXL_ORIGINAL_BLOCKS) | SDXL_TEXT
