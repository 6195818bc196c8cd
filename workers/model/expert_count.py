"""The number of experts under the name by which TRL's load-balancing loss asks a config for it.

trl 1.16 (trl/trainer/utils.py, `_fused_forward`) reads `num_experts`. Some configs have the number under another name
alone: without this, such a model can be trained with that loss switched off only.
"""

from __future__ import annotations

from transformers import PretrainedConfig

OTHER_NAMES = ("num_local_experts", "n_routed_experts")


def with_expert_count(config: PretrainedConfig) -> PretrainedConfig:
    """config, whose text config has num_experts wherever it has routing to balance and says how many there are.

    Where it says none (dense Granite 4 models), that loss is switched off: it takes one layer's routing for granted.
    """
    text = config.get_text_config(decoder=True)
    if hasattr(text, "output_router_logits") and not hasattr(text, "num_experts"):
        said = (getattr(text, name, None) for name in OTHER_NAMES)
        count = next((number for number in said if isinstance(number, int)), None)
        if count:
            text.num_experts = count
        elif count == 0:
            text.router_aux_loss_coef = 0.0
    return config
