"""Repositories that were made of DETR's code or its descendants', whose files may have the same
tensors and compute something else.

Only the arguments of the training script tell: what they add to those of the official scripts.
"""

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.official.told_by_file import Told
from ablate_kit.plural import first_few

# An argument, the value by which nothing changes, and whose it is.
_CHANGES = {
    "group_detr": (1, "Group DETR, of whose queries one group is evaluated"),
    "num_queries_one2many": (0, "H-DETR, of whose queries some are for training alone"),
    "use_ms_detr": (False, "MS-DETR, whose decoder has its attentions in another order"),
    "assign_first_stage": (False, "DETA, which chooses proposals by suppression of overlaps"),
    "assign_second_stage": (False, "DETA, which suppresses detections that overlap"),
    "dec_layer_number": (None, "DINO with other numbers of queries in its layers"),
}
# All of DETR, Conditional, DAB- and Deformable DETR, and DINO.
_NAMES = """
add_channel_attention add_pos_value amp aux_loss backbone backbone_freeze_keywords batch_norm_type
batch_size bbox_loss_coef box_attn_type cache_mode clip_max_norm cls_loss_coef coco_panoptic_path
coco_path config_file dabdetr_deformable_decoder dabdetr_deformable_encoder
dabdetr_yolo_like_anchor_update data_aug_max_size data_aug_scale_overlap data_aug_scales
dataset_file ddetr_lr_param debug dec_layers dec_n_points dec_pred_bbox_embed_share
dec_pred_class_embed_share decoder_layer_noise decoder_module_seq decoder_sa_type device
dice_loss_coef dilation dim_feedforward dist_backend dist_url distributed dln_hw_noise
dln_xy_noise dn_box_noise_scale dn_label_noise_ratio dn_labelbook_size dn_number dropout ema_decay
ema_epoch embed_init_tgt enc_layers enc_loss_coef enc_n_points eos_coef epochs eval
find_unused_params finetune_ignore fix_refpoints_hw fix_size focal_alpha frozen_weights
giou_loss_coef gpu hidden_dim interm_loss_coef local_rank lr lr_backbone lr_backbone_names lr_drop
lr_drop_epochs lr_drop_list lr_linear_proj_mult lr_linear_proj_names mask_loss_coef masks
match_unstable_error matcher_type modelname multi_step_lr nheads nms_iou_threshold
no_interm_box_loss note num_classes num_feature_levels num_patterns num_queries num_select
num_workers onecyclelr options output_dir param_dict_type pe_temperatureH pe_temperatureW
position_embedding position_embedding_scale pre_norm pretrain_model_path query_dim
random_refpoints_xy rank remove_difficult resume return_interm_indices return_interm_layers
save_checkpoint_interval save_log save_results seed set_cost_bbox set_cost_class set_cost_giou sgd
start_epoch test transformer_activation two_stage two_stage_add_query_num
two_stage_bbox_embed_share two_stage_class_embed_share two_stage_default_hw
two_stage_keep_all_tokens two_stage_learn_wh two_stage_pat_embed two_stage_type unic_layers
use_checkpoint use_deformable_box_attn use_detached_boxes_dec_out use_dn use_ema weight_decay
with_box_refine world_size
"""
_OFFICIAL = frozenset(_NAMES.split())


def check_made_of_it(told: Told) -> None:
    """Raises ``UserError`` for a file of another repository that is known to compute something
    else, and notes arguments of which nothing is known."""
    given = {
        name: value for name, value in told.arguments.items() if value and isinstance(name, str)
    }
    for name, (value, words) in _CHANGES.items():
        if given.get(name, value) != value:
            raise UserError(
                f"{name} is {given[name]!r}, as of {words}: that has no counterpart in "
                "transformers; its own code runs with --model python:FILE.py:NAME"
            )
    # Of other programs than these scripts, such as Lightning's, all arguments are others.
    others = sorted(given.keys() - _OFFICIAL - _CHANGES.keys()) if "nheads" in given else []
    if others:
        told.assumed.append(
            f"that {first_few(others, 4)} change nothing, "
            "which are no arguments of the official script"
        )
