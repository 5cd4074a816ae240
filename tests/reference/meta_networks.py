"""Networks of Meta's own code, at any size and on the CPU.

`sam3.model_builder` knows one size and puts tensors on "cuda"; here its parts are put together in
the same way at the sizes of a transformers config, and what it asks of CUDA is done on the CPU.
"""

from collections.abc import Sequence
from typing import Any

import torch
from sam3.model.decoder import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerDecoderLayerv2,
    TransformerEncoderCrossAttention,
)
from sam3.model.encoder import TransformerEncoderFusion, TransformerEncoderLayer
from sam3.model.geometry_encoders import SequenceGeometryEncoder
from sam3.model.maskformer_segmentation import PixelDecoder, UniversalSegmentationHead
from sam3.model.memory import CXBlock, SimpleFuser, SimpleMaskDownSampler, SimpleMaskEncoder
from sam3.model.model_misc import MLP, DotProductScoring, MultiheadAttentionWrapper
from sam3.model.model_misc import TransformerWrapper as Transformer
from sam3.model.necks import Sam3DualViTDetNeck
from sam3.model.position_encoding import PositionEmbeddingSine
from sam3.model.sam1_task_predictor import SAM3InteractiveImagePredictor
from sam3.model.sam3_image import Sam3Image
from sam3.model.sam3_tracking_predictor import Sam3TrackerPredictor
from sam3.model.text_encoder_ve import VETextEncoder
from sam3.model.vitdet import ViT
from sam3.model.vl_combiner import SAM3VLBackbone
from sam3.sam.transformer import RoPEAttention
from tokenizers import Tokenizer
from torch import nn
from torch.overrides import TorchFunctionMode

from workers.engine.meta_checkpoint import from_transformers


class OnTheCpu(TorchFunctionMode):
    """Tensors meant for "cuda" stay on the CPU (or on `device`), and none is pinned."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.Tensor.pin_memory:
            return args[0]
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = self.device
        return function(*args, **kwargs)


class PaddedTokens:
    """What VETextEncoder asks of a tokenizer: rows of one length, zeros behind the text."""

    def __init__(self, tokenizer_json: str) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)

    def __call__(self, texts: Sequence[str], context_length: int) -> torch.Tensor:
        rows = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = self._tokenizer.encode(text).ids
            row[: len(ids)] = torch.tensor(ids)
        return rows


def meta_network(config: Any, *, tokenizer_json: str, clicks: bool) -> Sam3Image:
    """As build_sam3_image_model. `config` is a Sam3Config; sizes of the tracker that Meta's
    constructors fix (2048 wide MLPs, 8 heads, IoU head 256 wide) are not in it."""
    width = config.detr_encoder_config.hidden_size
    network = Sam3Image(
        backbone=SAM3VLBackbone(
            visual=_vision(config, width, clicks),
            text=_text(config, width, tokenizer_json),
            scalp=1,
        ),
        transformer=Transformer(
            encoder=_detr_encoder(config, width),
            decoder=_detr_decoder(config, width),
            d_model=width,
        ),
        input_geometry_encoder=_geometry_encoder(config, width),
        segmentation_head=_segmentation_head(config, width),
        num_feature_levels=1,
        o2m_mask_predict=True,
        dot_prod_scoring=_scoring(config, width),
        use_instance_query=False,
        multimask_output=True,
        inst_interactive_predictor=_click_predictor(config, width) if clicks else None,
        matcher=None,
    )
    return network.eval().requires_grad_(False)


def load_into(network: Sam3Image, transformers_state: dict[str, torch.Tensor]) -> list[str]:
    """As model_builder._load_checkpoint, by way of Meta's layout; what was missing."""
    meta = {name: tensor.float() for name, tensor in from_transformers(transformers_state).items()}
    missing, unexpected = network.load_state_dict(as_image_model(meta), strict=False)
    assert [name for name in unexpected if not name.startswith("inst_interactive")] == []
    return list(missing)


def as_image_model(meta_state: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("detector.").replace(
            "tracker.", "inst_interactive_predictor.model."
        ): tensor
        for name, tensor in meta_state.items()
    }


def _positions(width: int) -> PositionEmbeddingSine:
    return PositionEmbeddingSine(num_pos_feats=width, normalize=True, scale=None, temperature=10000)


def _attention(heads: int, width: int, *, batch_first: bool = False) -> nn.Module:
    return MultiheadAttentionWrapper(
        num_heads=heads, dropout=0.0, embed_dim=width, batch_first=batch_first
    )


def _vision(config: Any, width: int, clicks: bool) -> Sam3DualViTDetNeck:
    vit = config.vision_config.backbone_config
    trunk = ViT(
        img_size=vit.image_size,
        pretrain_img_size=vit.pretrain_image_size,
        patch_size=vit.patch_size,
        embed_dim=vit.hidden_size,
        depth=vit.num_hidden_layers,
        num_heads=vit.num_attention_heads,
        mlp_ratio=vit.intermediate_size / vit.hidden_size,
        # As published, but for 1e-5 where transformers' config says 1e-6 by default.
        norm_layer=lambda size: nn.LayerNorm(size, eps=vit.layer_norm_eps),
        qkv_bias=True,
        use_abs_pos=True,
        tile_abs_pos=True,
        global_att_blocks=tuple(vit.global_attn_indexes),
        rel_pos_blocks=(),
        use_rope=True,
        use_interp_rope=True,
        window_size=vit.window_size,
        pretrain_use_cls_token=True,
        retain_cls_token=False,
        ln_pre=True,
        ln_post=False,
        bias_patch_embed=False,
    )
    return Sam3DualViTDetNeck(
        position_encoding=_positions(width),
        d_model=width,
        scale_factors=[4.0, 2.0, 1.0, 0.5],
        trunk=trunk,
        add_sam2_neck=clicks,
    )


def _text(config: Any, width: int, tokenizer_json: str) -> VETextEncoder:
    text = config.text_config
    encoder = VETextEncoder(
        tokenizer=PaddedTokens(tokenizer_json),
        d_model=width,
        width=text.hidden_size,
        heads=text.num_attention_heads,
        layers=text.num_hidden_layers,
        context_length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
    )
    # Fixed by the constructor: MLPs four times as wide, projection to 512.
    for block in encoder.encoder.transformer.resblocks:
        block.mlp.c_fc = nn.Linear(text.hidden_size, text.intermediate_size)
        block.mlp.c_proj = nn.Linear(text.intermediate_size, text.hidden_size)
    encoder.encoder.text_projection = nn.Parameter(
        torch.zeros(text.hidden_size, text.projection_dim)
    )
    return encoder


def _detr_encoder(config: Any, width: int) -> TransformerEncoderFusion:
    sizes = config.detr_encoder_config
    layer = TransformerEncoderLayer(
        activation="relu",
        d_model=width,
        dim_feedforward=sizes.intermediate_size,
        dropout=0.0,
        pos_enc_at_attn=True,
        pos_enc_at_cross_attn_keys=False,
        pos_enc_at_cross_attn_queries=False,
        pre_norm=True,
        self_attention=_attention(sizes.num_attention_heads, width, batch_first=True),
        cross_attention=_attention(sizes.num_attention_heads, width, batch_first=True),
    )
    return TransformerEncoderFusion(
        layer=layer,
        num_layers=sizes.num_layers,
        d_model=width,
        num_feature_levels=1,
        frozen=False,
        use_act_checkpoint=True,
        add_pooled_text_to_img_feat=False,
        pool_text_with_mask=True,
    )


def _detr_decoder(config: Any, width: int) -> TransformerDecoder:
    sizes = config.detr_decoder_config
    vit = config.vision_config.backbone_config
    layer = TransformerDecoderLayer(
        activation="relu",
        d_model=width,
        dim_feedforward=sizes.intermediate_size,
        dropout=0.0,
        cross_attention=_attention(sizes.num_attention_heads, width),
        n_heads=sizes.num_attention_heads,
        use_text_cross_attention=True,
    )
    return TransformerDecoder(
        layer=layer,
        num_layers=sizes.num_layers,
        num_queries=sizes.num_queries,
        return_intermediate=True,
        box_refine=True,
        num_o2m_queries=0,
        dac=True,
        boxRPB="log",
        d_model=width,
        frozen=False,
        interaction_layer=None,
        dac_use_selfatt_ln=True,
        resolution=vit.image_size,
        stride=vit.patch_size,
        use_act_checkpoint=True,
        presence_token=True,
    )


def _scoring(config: Any, width: int) -> DotProductScoring:
    mlp = MLP(
        input_dim=width,
        hidden_dim=config.detr_decoder_config.intermediate_size,
        output_dim=width,
        num_layers=2,
        dropout=0.0,
        residual=True,
        out_norm=nn.LayerNorm(width),
    )
    return DotProductScoring(d_model=width, d_proj=width, prompt_mlp=mlp)


def _segmentation_head(config: Any, width: int) -> UniversalSegmentationHead:
    stages = config.mask_decoder_config.num_upsampling_stages
    return UniversalSegmentationHead(
        hidden_dim=width,
        upsampling_stages=stages,
        aux_masks=False,
        presence_head=False,
        dot_product_scorer=None,
        act_ckpt=True,
        cross_attend_prompt=_attention(config.mask_decoder_config.num_attention_heads, width),
        pixel_decoder=PixelDecoder(
            num_upsampling_stages=stages, interpolation_mode="nearest", hidden_dim=width
        ),
    )


def _geometry_encoder(config: Any, width: int) -> SequenceGeometryEncoder:
    sizes = config.geometry_encoder_config
    layer = TransformerEncoderLayer(
        activation="relu",
        d_model=width,
        dim_feedforward=sizes.intermediate_size,
        dropout=0.0,
        pos_enc_at_attn=False,
        pre_norm=True,
        self_attention=_attention(sizes.num_attention_heads, width),
        pos_enc_at_cross_attn_queries=False,
        pos_enc_at_cross_attn_keys=True,
        cross_attention=_attention(sizes.num_attention_heads, width),
    )
    return SequenceGeometryEncoder(
        pos_enc=_positions(width),
        encode_boxes_as_points=False,
        points_direct_project=True,
        points_pool=True,
        points_pos_enc=True,
        boxes_direct_project=True,
        boxes_pool=True,
        boxes_pos_enc=True,
        d_model=width,
        num_layers=sizes.num_layers,
        layer=layer,
        use_act_ckpt=True,
        add_cls=True,
        add_post_encode_proj=True,
    )


def _click_predictor(config: Any, width: int) -> SAM3InteractiveImagePredictor:
    vit = config.vision_config.backbone_config
    side = vit.image_size // vit.patch_size
    tracker = Sam3TrackerPredictor(
        image_size=vit.image_size,
        num_maskmem=7,
        backbone=None,
        backbone_stride=vit.patch_size,
        transformer=Transformer(
            encoder=_memory_attention(width, side), decoder=None, d_model=width
        ),
        maskmem_backbone=_memory_encoder(width),
        multimask_output_in_sam=True,
        multimask_output_for_tracking=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        sam_mask_decoder_extra_args={
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
    )
    predictor = SAM3InteractiveImagePredictor(tracker)
    predictor._bb_feat_sizes = [(side * scale, side * scale) for scale in (4, 2, 1)]
    return predictor


def _memory_attention(width: int, side: int) -> TransformerEncoderCrossAttention:
    common = {
        "embedding_dim": width,
        "num_heads": 1,
        "downsample_rate": 1,
        "feat_sizes": [side, side],
    }
    layer = TransformerDecoderLayerv2(
        cross_attention_first=False,
        activation="relu",
        dim_feedforward=2 * width,
        dropout=0.0,
        pos_enc_at_attn=False,
        pre_norm=True,
        self_attention=RoPEAttention(**common),
        d_model=width,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=RoPEAttention(kv_in_dim=64, rope_k_repeat=True, **common),
    )
    return TransformerEncoderCrossAttention(
        remove_cross_attention_layers=[],
        batch_first=True,
        d_model=width,
        frozen=False,
        pos_enc_at_input=True,
        layer=layer,
        num_layers=1,
        use_act_checkpoint=False,
    )


def _memory_encoder(width: int) -> SimpleMaskEncoder:
    return SimpleMaskEncoder(
        out_dim=64,
        in_dim=width,
        position_encoding=_positions(64),
        mask_downsampler=SimpleMaskDownSampler(embed_dim=width, kernel_size=3, stride=2, padding=1),
        fuser=SimpleFuser(layer=CXBlock(dim=width), num_layers=1),
    )
