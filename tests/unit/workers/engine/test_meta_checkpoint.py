import re

import pytest
import torch

from tests.unit.workers.engine.random_network import as_published, random_models
from workers.engine.meta_checkpoint import UNUSED, from_transformers, to_transformers

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def published() -> State:
    return as_published(*random_models())


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_there_and_back_is_the_same_network(published: State) -> None:
    assert equal(to_transformers(from_transformers(published)), published)


def test_back_and_there_is_the_same_file(published: State) -> None:
    meta = from_transformers(published)
    assert equal(from_transformers(to_transformers(meta)), meta)


def test_every_name_is_one_of_metas(published: State) -> None:
    names = from_transformers(published)
    assert all(re.match(r"(detector|tracker)\.", name) for name in names)
    assert not any(UNUSED.match(name) for name in names)


def test_what_video_needs_and_what_can_be_computed_is_left_out(published: State) -> None:
    extra = [
        "detector.backbone.vision_backbone.trunk.blocks.31.attn.freqs_cis",
        "detector.backbone.vision_backbone.sam2_convs.3.conv_1x1.weight",
        "detector.geometry_encoder.points_pool_project.bias",
        "tracker.transformer.encoder.layers.0.norm1.weight",
        "tracker.maskmem_backbone.fuser.layers.1.gamma",
        "tracker.maskmem_tpos_enc",
        "tracker.no_obj_ptr",
        "tracker.obj_ptr_tpos_proj.weight",
    ]
    meta = from_transformers(published) | {name: torch.zeros(1) for name in extra}
    assert equal(to_transformers(meta), published)


@pytest.mark.parametrize(
    "name",
    [
        "detector.transformer.decoder.layers.0.self_attn.extra",
        "tracker.sam_mask_decoder.conv_s2.weight",
        "something.else",
    ],
)
def test_what_no_rule_knows_is_passed_on_by_its_name(published: State, name: str) -> None:
    converted = to_transformers(from_transformers(published) | {name: torch.zeros(1)})
    assert converted.keys() - published.keys() == {name}


def test_a_part_of_a_joined_tensor_is_passed_on_by_its_name(published: State) -> None:
    meta = from_transformers(published)
    del meta["tracker.sam_prompt_encoder.point_embeddings.2.weight"]
    converted = to_transformers(meta)
    assert published.keys() - converted.keys() == {
        "tracker_model.prompt_encoder.point_embed.weight"
    }
    assert len(converted.keys() - published.keys()) == 3


def test_queries_keys_and_values_are_stacked_in_this_order(published: State) -> None:
    fused = from_transformers(published)[
        "detector.transformer.encoder.layers.1.self_attn.in_proj_bias"
    ]
    prefix = "detector_model.detr_encoder.layers.1.self_attn"
    parts = [published[f"{prefix}.{which}_proj.bias"] for which in "qkv"]
    assert torch.equal(fused, torch.cat(parts))


def test_positions_get_a_class_token_and_lose_it_again(published: State) -> None:
    name = "detector_model.vision_encoder.backbone.embeddings.position_embeddings"
    meta = from_transformers(published)
    positions = meta["detector.backbone.vision_backbone.trunk.pos_embed"]
    assert positions.shape[1] == published[name].shape[1] + 1
    positions[:, 0] = 7
    assert torch.equal(to_transformers(meta)[name], published[name])


def test_two_matrices_of_positions_do_not_fit(published: State) -> None:
    name = "tracker_model.prompt_encoder.shared_embedding.positional_embedding"
    with pytest.raises(ValueError, match="one matrix"):
        from_transformers(published | {name: published[name] + 1})
