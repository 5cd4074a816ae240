"""A random network of sizes that are nobody's, in transformers' layout."""

from typing import Any

import torch
from transformers import Sam3Config, Sam3Model, Sam3TrackerConfig, Sam3TrackerModel

SIDE, PATCH = 128, 8
VISION = {
    "fpn_hidden_size": 64,
    "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]],
    "scale_factors": [4.0, 2.0, 1.0, 0.5],
    "backbone_config": {
        "model_type": "sam3_vit_model",
        "hidden_size": 48,
        "intermediate_size": 120,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "image_size": SIDE,
        "patch_size": PATCH,
        "window_size": 4,
        "global_attn_indexes": [0, 2],  # Meta's ViT stops at the last of them
        "pretrain_image_size": 64,
    },
}
PART = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 96}


def sam3_config(vocabulary: int = 64) -> Any:
    return Sam3Config(
        vision_config=VISION,
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "projection_dim": 24,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "gelu",
        },
        geometry_encoder_config={**PART, "num_layers": 2},
        detr_encoder_config={**PART, "num_layers": 2},
        detr_decoder_config={**PART, "num_layers": 3, "num_queries": 12},
        mask_decoder_config={"hidden_size": 64, "num_attention_heads": 2},
    )


def tracker_config() -> Any:
    """MLPs 2048 wide, 8 heads and an IoU head 256 wide, as Meta's constructors fix them."""
    return Sam3TrackerConfig(
        vision_config={
            **VISION,
            "model_type": "sam3_vision_model",
            "scale_factors": [4.0, 2.0, 1.0],
        },
        prompt_encoder_config={"hidden_size": 64, "image_size": SIDE, "patch_size": PATCH},
        mask_decoder_config={
            "hidden_size": 64,
            "mlp_dim": 2048,
            "num_attention_heads": 8,
            "iou_head_hidden_dim": 256,
        },
    )


def random_models() -> tuple[Any, Any]:
    """Both classes on one ViT, with weights large enough that every part matters."""
    torch.manual_seed(0)
    detector, tracker = Sam3Model(sam3_config()).eval(), Sam3TrackerModel(tracker_config()).eval()
    tracker.vision_encoder.backbone = detector.vision_encoder.backbone
    for network in (detector, tracker):
        for tensor in network.parameters():
            tensor.data.add_(0.05 * torch.randn_like(tensor))
    shared = tracker.shared_image_embedding.positional_embedding
    tracker.prompt_encoder.shared_embedding.positional_embedding.data.copy_(shared)
    return detector, tracker


def as_published(detector: Any, tracker: Any) -> dict[str, torch.Tensor]:
    """The names in the safetensors of facebook/sam3."""
    state = {f"detector_model.{name}": tensor for name, tensor in detector.state_dict().items()}
    for name, tensor in tracker.state_dict().items():
        if name.startswith("vision_encoder.neck."):
            state[name.replace("vision_encoder.neck.", "tracker_neck.")] = tensor
        elif not name.startswith("vision_encoder."):
            state[f"tracker_model.{name}"] = tensor
    return state
