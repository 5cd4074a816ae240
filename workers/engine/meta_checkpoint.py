"""Meta's layout of a checkpoint (sam3.pt) and that of transformers, one table for both ways.

Meta's names are those of sam3/model_builder.py: `detector.` finds concepts, `tracker.` answers
clicks, and both sit on one ViT. transformers' names are those of `facebook/sam3` on the hub.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from workers.engine.checkpoint_rules import Row, Rule, State, apply, fused, transposed, under

# What Meta's file holds and neither Sam3Model nor Sam3TrackerModel has a place for.
UNUSED = re.compile(
    r"detector\.backbone\.vision_backbone\.trunk\.blocks\.\d+\.attn\.freqs_cis$"  # computed instead
    r"|detector\.backbone\.vision_backbone\.sam2_convs\.3\."  # a level that nobody reads
    r"|detector\.geometry_encoder\.points_"  # points as exemplars of a concept
    # The tracker's memory of earlier video frames:
    r"|tracker\.(transformer|maskmem_backbone|mask_downsample|obj_ptr_proj|obj_ptr_tpos_proj)\."
    r"|tracker\.(maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial)$"
)


def to_transformers(state: State) -> dict[str, Tensor]:
    """Leaves out what UNUSED names; passes on, under its own name, what no rule knows, so that
    whoever loads the result can name it."""
    used = {name: tensor for name, tensor in state.items() if not UNUSED.match(name)}
    return apply(used, [rule.forwards for rule in RULES])


def from_transformers(state: State) -> dict[str, Tensor]:
    """Without what `to_transformers` leaves out; the position of the class token is zero.

    Raises ValueError for a network that Meta's layout cannot hold.
    """
    return apply(state, [rule.backwards for rule in RULES])


def _without_class_token(one: Sequence[Tensor]) -> Sequence[Tensor]:
    return [one[0][:, 1:]]


def _with_class_token(one: Sequence[Tensor]) -> Sequence[Tensor]:
    return [torch.cat([torch.zeros_like(one[0][:, :1]), one[0]], dim=1)]


def _the_same(two: Sequence[Tensor]) -> Sequence[Tensor]:
    if not torch.equal(two[0], two[1]):
        raise ValueError("Meta's layout has room for one matrix of positions; here are two")
    return two[:1]


def _mlp(meta: str, transformers: str, names: Sequence[str]) -> list[Rule]:
    return under(
        f"{meta}.layers.", f"{transformers}.", [(f"{n}.", f"{to}.") for n, to in enumerate(names)]
    )


def _attention(meta: str, transformers: str) -> list[Rule]:
    rows: list[Row] = [fused("in_proj_", ""), ("out_proj.", "o_proj.")]
    return under(f"{meta}.", f"{transformers}.", rows)


def _plain_attention(meta: str, transformers: str) -> list[Rule]:
    rows = [*[(f"{which}_proj.", f"{which}_proj.") for which in "qkv"], ("out_proj.", "o_proj.")]
    return under(f"{meta}.", f"{transformers}.", rows)


def _fusion_layers(meta: str, transformers: str) -> list[Rule]:
    """Self-attention, a look at the other modality, MLP: DETR encoder and geometry encoder."""
    rows: list[Row] = [
        *_attention("self_attn", "self_attn"),
        *_attention("cross_attn_image", "cross_attn"),
        ("linear1.", "mlp.fc1."),
        ("linear2.", "mlp.fc2."),
        *[(f"norm{n}.", f"layer_norm{n}.") for n in (1, 2, 3)],
    ]
    return under(f"{meta}.*.", f"{transformers}.*.", rows)


_NUMBERED = ("layer1", "layer2", "layer3")
_IN_AND_OUT = ("proj_in", "layers.0", "proj_out")

_VIT = under(
    "detector.backbone.vision_backbone.trunk.",
    "detector_model.vision_encoder.backbone.",
    [
        Rule(
            ("pos_embed",),
            ("embeddings.position_embeddings",),
            _without_class_token,
            _with_class_token,
        ),
        ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
        ("ln_pre.", "layer_norm."),
        ("blocks.*.norm1.", "layers.*.layer_norm1."),
        ("blocks.*.norm2.", "layers.*.layer_norm2."),
        fused("blocks.*.attn.qkv.", "layers.*.attention."),
        ("blocks.*.attn.proj.", "layers.*.attention.o_proj."),
        ("blocks.*.mlp.fc1.", "layers.*.mlp.fc1."),
        ("blocks.*.mlp.fc2.", "layers.*.mlp.fc2."),
    ],
)

_NECK_LEVELS: Sequence[tuple[str, str]] = [
    ("0.dconv_2x2_0.", "0.scale_layers.0."),  # four times the ViT's resolution
    ("0.dconv_2x2_1.", "0.scale_layers.2."),
    ("1.dconv_2x2.", "1.scale_layers.0."),  # twice
    ("*.conv_1x1.", "*.proj1."),
    ("*.conv_3x3.", "*.proj2."),
]
_NECKS = [
    *under(
        "detector.backbone.vision_backbone.convs.",
        "detector_model.vision_encoder.neck.fpn_layers.",
        _NECK_LEVELS,
    ),
    *under(
        "detector.backbone.vision_backbone.sam2_convs.", "tracker_neck.fpn_layers.", _NECK_LEVELS
    ),
]

_TEXT = [
    *under(
        "detector.backbone.language_backbone.encoder.",
        "detector_model.text_encoder.",
        [
            ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
            ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
            ("ln_final.", "text_model.final_layer_norm."),
            Rule(("text_projection",), ("text_projection.weight",), transposed, transposed),
            *under(
                "transformer.resblocks.*.",
                "text_model.encoder.layers.*.",
                [
                    fused("attn.in_proj_", "self_attn."),
                    ("attn.out_proj.", "self_attn.out_proj."),
                    ("ln_1.", "layer_norm1."),
                    ("ln_2.", "layer_norm2."),
                    ("mlp.c_fc.", "mlp.fc1."),
                    ("mlp.c_proj.", "mlp.fc2."),
                ],
            ),
        ],
    ),
    *under(
        "detector.backbone.language_backbone.",
        "detector_model.",
        [("resizer.", "text_projection.")],
    ),
]

_GEOMETRY = under(
    "detector.geometry_encoder.",
    "detector_model.geometry_encoder.",
    [
        *[(f"{name}.weight", f"{name}.weight") for name in ("label_embed", "cls_embed")],
        ("boxes_direct_project.", "boxes_direct_project."),
        ("boxes_pool_project.", "boxes_pool_project."),
        ("boxes_pos_enc_project.", "boxes_pos_enc_project."),
        ("final_proj.", "final_proj."),
        ("norm.", "prompt_layer_norm."),
        ("img_pre_norm.", "vision_layer_norm."),
        ("encode_norm.", "output_layer_norm."),
        *_fusion_layers("encode", "layers"),
    ],
)

_DETR_DECODER = under(
    "detector.transformer.decoder.",
    "detector_model.detr_decoder.",
    [
        *[
            (f"{name}.weight", f"{name}.weight")
            for name in ("query_embed", "reference_points", "presence_token")
        ],
        ("norm.", "output_layer_norm."),
        ("presence_token_out_norm.", "presence_layer_norm."),
        *_mlp("presence_token_head", "presence_head", _NUMBERED),
        *_mlp("bbox_embed", "box_head", _NUMBERED),
        *_mlp("ref_point_head", "ref_point_head", _NUMBERED[:2]),
        *_mlp("boxRPB_embed_x", "box_rpb_embed_x", _NUMBERED[:2]),
        *_mlp("boxRPB_embed_y", "box_rpb_embed_y", _NUMBERED[:2]),
        *_attention("layers.*.self_attn", "layers.*.self_attn"),
        *_attention("layers.*.ca_text", "layers.*.text_cross_attn"),
        *_attention("layers.*.cross_attn", "layers.*.vision_cross_attn"),
        ("layers.*.norm1.", "layers.*.vision_cross_attn_layer_norm."),
        ("layers.*.norm2.", "layers.*.self_attn_layer_norm."),
        ("layers.*.norm3.", "layers.*.mlp_layer_norm."),
        ("layers.*.catext_norm.", "layers.*.text_cross_attn_layer_norm."),
        ("layers.*.linear1.", "layers.*.mlp.fc1."),
        ("layers.*.linear2.", "layers.*.mlp.fc2."),
    ],
)

_SCORING = under(
    "detector.dot_prod_scoring.",
    "detector_model.dot_product_scoring.",
    [
        *_mlp("prompt_mlp", "text_mlp", _NUMBERED[:2]),
        ("prompt_mlp.out_norm.", "text_mlp_out_norm."),
        ("prompt_proj.", "text_proj."),
        ("hs_proj.", "query_proj."),
    ],
)

_MASKS = under(
    "detector.segmentation_head.",
    "detector_model.mask_decoder.",
    [
        ("pixel_decoder.conv_layers.*.", "pixel_decoder.conv_layers.*."),
        ("pixel_decoder.norms.*.", "pixel_decoder.norms.*."),
        ("mask_predictor.mask_embed.layers.*.", "mask_embedder.layers.*."),
        ("instance_seg_head.", "instance_projection."),
        ("semantic_seg_head.", "semantic_projection."),
        *_attention("cross_attend_prompt", "prompt_cross_attn"),
        ("cross_attn_norm.", "prompt_cross_attn_norm."),
    ],
)

_CLICK_PROMPTS = under(
    "tracker.sam_prompt_encoder.",
    "tracker_model.",
    [
        Rule(  # one matrix, read in two places
            ("pe_layer.positional_encoding_gaussian_matrix",),
            (
                "shared_image_embedding.positional_embedding",
                "prompt_encoder.shared_embedding.positional_embedding",
            ),
            lambda one: [one[0], one[0].clone()],
            _the_same,
        ),
        Rule(  # negative, positive, top left, bottom right
            tuple(f"point_embeddings.{kind}.weight" for kind in range(4)),
            ("prompt_encoder.point_embed.weight",),
            lambda four: [torch.cat(list(four))],
            lambda one: torch.split(one[0], 1),
        ),
        ("not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
        ("no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
        ("mask_downscaling.0.", "prompt_encoder.mask_embed.conv1."),
        ("mask_downscaling.1.", "prompt_encoder.mask_embed.layer_norm1."),
        ("mask_downscaling.3.", "prompt_encoder.mask_embed.conv2."),
        ("mask_downscaling.4.", "prompt_encoder.mask_embed.layer_norm2."),
        ("mask_downscaling.6.", "prompt_encoder.mask_embed.conv3."),
    ],
)


_CLICK_MASKS = under(
    "tracker.sam_mask_decoder.",
    "tracker_model.mask_decoder.",
    [
        *[
            (f"{name}.weight", f"{name}.weight")
            for name in ("iou_token", "mask_tokens", "obj_score_token")
        ],
        ("conv_s0.", "conv_s0."),
        ("conv_s1.", "conv_s1."),
        ("output_upscaling.0.", "upscale_conv1."),
        ("output_upscaling.1.", "upscale_layer_norm."),
        ("output_upscaling.3.", "upscale_conv2."),
        *_mlp("output_hypernetworks_mlps.*", "output_hypernetworks_mlps.*", _IN_AND_OUT),
        *_mlp("iou_prediction_head", "iou_prediction_head", _IN_AND_OUT),
        *_mlp("pred_obj_score_head", "pred_obj_score_head", _IN_AND_OUT),
        *under(
            "transformer.layers.*.",
            "transformer.layers.*.",
            [
                *[
                    rule
                    for name in (
                        "self_attn",
                        "cross_attn_token_to_image",
                        "cross_attn_image_to_token",
                    )
                    for rule in _plain_attention(name, name)
                ],
                *[(f"norm{n}.", f"layer_norm{n}.") for n in (1, 2, 3, 4)],
                ("mlp.lin1.", "mlp.proj_in."),
                ("mlp.lin2.", "mlp.proj_out."),
            ],
        ),
        *_plain_attention(
            "transformer.final_attn_token_to_image", "transformer.final_attn_token_to_image"
        ),
        ("transformer.norm_final_attn.", "transformer.layer_norm_final_attn."),
    ],
)

RULES: Sequence[Rule] = [
    *_VIT,
    *_NECKS,
    *_TEXT,
    *_GEOMETRY,
    *_fusion_layers("detector.transformer.encoder.layers", "detector_model.detr_encoder.layers"),
    *_DETR_DECODER,
    *_SCORING,
    *_MASKS,
    *_CLICK_PROMPTS,
    *_CLICK_MASKS,
    Rule(("tracker.no_mem_embed",), ("tracker_model.no_memory_embedding",)),
]
