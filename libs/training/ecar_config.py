"""From a recipe's section `ecar` to what config.json says of the networks; see ecar_model.py for what the fields mean."""

from dataclasses import asdict

from ecar_model import TIME_FREQUENCIES
from ecar_schedule import Stage, make_stages

TIME = {"scale": 1000, "base": 10000, "frequencies": TIME_FREQUENCIES}


def layers_config(recipe):
    """A recipe's sizes under Qwen2's names."""
    return {
        "hidden_size": recipe["hiddenSize"], "intermediate_size": recipe["intermediateSize"],
        "num_hidden_layers": recipe["layers"], "num_attention_heads": recipe["heads"],
        "num_key_value_heads": recipe["keyValueHeads"], "rms_norm_eps": 1e-6, "rope_theta": recipe["ropeTheta"],
    }


def text_config(recipe, vocabulary, positions):
    """As `layers_config`, with what else a Qwen2 config must say; there is no head, so none is stored."""
    return {"model_type": "qwen2", "hidden_act": "silu", **layers_config(recipe), "vocab_size": vocabulary,
            "max_position_embeddings": positions, "tie_word_embeddings": True}


def latent_config(recipe, statistics):
    return {"channels": len(statistics["mean"]), "side": recipe["sides"][-1], "mean": statistics["mean"], "scale": statistics["scale"]}


def ecar_config(recipe, vocabulary, statistics):
    """config.json of the stage transformer and the flow head."""
    sides = recipe["sides"]
    stages = zip(make_stages(sides), recipe["solverSteps"], recipe["guidanceShares"])
    positions = recipe["maxPromptTokens"] + sum(side**2 for side in sides)
    return {
        "model_type": "ecar",
        "latent": latent_config(recipe, statistics),
        "stages": [{**asdict(stage), "solver_steps": steps, "guidance_share": share} for stage, steps, share in stages],
        "solver": recipe["solver"], "time": TIME, "token_map_channels": recipe["tokenMapChannels"],
        "max_prompt_tokens": recipe["maxPromptTokens"],
        "transformer": text_config(recipe["transformer"], vocabulary, positions),
        "flow_head": layers_config(recipe["flowHead"]),
    }


def dit_config(recipe, vocabulary, statistics):
    """dit/config.json of the baseline."""
    positions = recipe["maxPromptTokens"] + recipe["sides"][-1] ** 2
    return {
        "model_type": "dit", "latent": latent_config(recipe, statistics), "time": TIME,
        "max_prompt_tokens": recipe["maxPromptTokens"],
        "transformer": text_config(recipe["dit"], vocabulary, positions),
    }


def make_config(name, recipe, vocabulary, statistics):
    """`ecar` or `dit`; statistics: mean and scale of each latent channel."""
    return {"ecar": ecar_config, "dit": dit_config}[name](recipe, vocabulary, statistics)


def stages_of(config):
    """The stages that config.json holds."""
    return [Stage(**{name: stage[name] for name in Stage.__dataclass_fields__}) for stage in config["stages"]]
