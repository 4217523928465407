"""Small models of transformers with random weights, and the MLPs that a trace of each must show."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, Optional

import torch
import transformers
from torch import nn

logging.getLogger("transformers").setLevel(logging.ERROR)

IDS = torch.arange(1, 13).view(2, 6)  # 12 tokens
PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
TOKENS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
PLAIN = dict(
    hidden_size=48, intermediate_size=104, num_hidden_layers=2, num_attention_heads=4, vocab_size=64, **TOKENS
)
GROUPED = dict(PLAIN, num_key_value_heads=2)
HEADS = dict(GROUPED, head_dim=12)
GPT = dict(n_embd=48, n_inner=104, n_layer=2, n_head=4, vocab_size=64, **TOKENS)
T5 = dict(d_model=48, d_ff=104, num_layers=2, num_heads=4, d_kv=12, vocab_size=64, **TOKENS)
IMAGE = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
EXPERTS = dict(num_experts=8, num_experts_per_tok=2)
LATENT = dict(q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=12)


class Row(NamedTuple):
    """What the analysis must say about one MLP."""

    kind: str
    launches: float
    bias: bool = False
    d_hidden: Optional[int] = 104
    d_in: Optional[int] = 48
    tokens: Optional[int] = 12
    instances: int = 2
    experts: Optional[int] = None
    top_k: Optional[int] = None


def row_of(mlp: dict) -> Row:
    """The same of an analysis' row."""
    assert mlp["d_out"] == mlp["d_in"]
    assert mlp["gated"] == mlp["kind"].endswith(("glu", "glu_tanh", "glu_oai"))
    return Row(
        mlp["kind"],
        mlp["launches_per_instance"],
        mlp["bias"],
        mlp["d_hidden"],
        mlp["d_in"],
        mlp["tokens"],
        mlp["instances"],
        mlp["experts"],
        mlp["top_k"],
    )


GELU = [Row("gelu", 3, bias=True)]  # fc1, activation, fc2
GELU_NEW = [Row("gelu_tanh", 10, bias=True)]  # eight element-wise steps between
SWIGLU = [Row("swiglu", 5)]  # gate, activation, up, product, down
GEGLU = [Row("geglu", 5)]  # an aten::gelu does not say which of its two forms it is
PACKED = [Row("swiglu", 4)]


def _experts(launches: float = 4, experts: int = 8, top_k: Optional[int] = 2, **more) -> Row:
    return Row("swiglu", launches, experts=experts, top_k=top_k, **more)


# name: model class, configuration class, its values, rows
TEXT: dict[str, tuple[str, str, dict[str, Any], list[Row]]] = {
    "bert": ("BertModel", "BertConfig", PLAIN, GELU),
    "roberta": ("RobertaModel", "RobertaConfig", PLAIN, GELU),
    "electra": ("ElectraModel", "ElectraConfig", dict(PLAIN, embedding_size=48), GELU),
    "deberta": ("DebertaV2Model", "DebertaV2Config", PLAIN, GELU),
    "albert": ("AlbertModel", "AlbertConfig", dict(PLAIN, embedding_size=48), GELU_NEW),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        dict(dim=48, hidden_dim=104, n_layers=2, n_heads=4, vocab_size=64, **TOKENS),
        GELU,
    ),
    "modernbert": ("ModernBertModel", "ModernBertConfig", PLAIN, [Row("geglu", 4)]),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT, GELU_NEW),
    "gptj": ("GPTJForCausalLM", "GPTJConfig", dict(GPT, rotary_dim=8), GELU_NEW),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", PLAIN, GELU),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        dict(hidden_size=48, n_layer=2, n_head=4, vocab_size=64, **TOKENS),
        [Row("gelu_tanh", 11, bias=True, d_hidden=192)],
    ),
    "falcon": (
        "FalconForCausalLM",
        "FalconConfig",
        dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=64, **TOKENS),
        [Row("gelu", 3, d_hidden=192)],
    ),
    "phi": ("PhiForCausalLM", "PhiConfig", PLAIN, GELU_NEW),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", GROUPED, GELU),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        dict(
            hidden_size=48,
            ffn_dim=104,
            num_hidden_layers=2,
            num_attention_heads=4,
            vocab_size=64,
            word_embed_proj_dim=48,
            **TOKENS,
        ),
        [Row("relu", 3, bias=True)],
    ),
    "nemotron": ("NemotronForCausalLM", "NemotronConfig", GROUPED, [Row("relu2", 4)]),
    "t5": ("T5EncoderModel", "T5Config", T5, [Row("relu", 3)]),
    "t5_gated": (
        "T5EncoderModel",
        "T5Config",
        dict(T5, feed_forward_proj="gated-gelu"),
        [Row("geglu_tanh", 12)],
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED, SWIGLU),
    "llama_bias": (
        "LlamaForCausalLM",
        "LlamaConfig",
        dict(GROUPED, mlp_bias=True),
        [Row("swiglu", 5, bias=True)],
    ),
    "mistral": ("MistralForCausalLM", "MistralConfig", GROUPED, SWIGLU),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED, SWIGLU),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", HEADS, SWIGLU),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", GROUPED, SWIGLU),
    "granite": ("GraniteForCausalLM", "GraniteConfig", GROUPED, SWIGLU),
    "cohere": ("CohereForCausalLM", "CohereConfig", GROUPED, SWIGLU),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", GROUPED, SWIGLU),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", dict(GROUPED, num_attention_heads=2), SWIGLU),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", HEADS, GEGLU),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", HEADS, GEGLU),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", HEADS, GEGLU),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", GROUPED, PACKED),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", dict(GROUPED, num_local_experts=8), [_experts()]),
    "olmoe": ("OlmoeForCausalLM", "OlmoeConfig", dict(GROUPED, **EXPERTS), [_experts()]),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        dict(HEADS, moe_intermediate_size=40, **EXPERTS),
        [_experts(d_hidden=40)],
    ),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        dict(GROUPED, moe_intermediate_size=40, shared_expert_intermediate_size=72, **EXPERTS),
        [_experts(d_hidden=40), Row("swiglu", 5, d_hidden=72)],
    ),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        dict(
            PLAIN,
            num_key_value_heads=4,
            moe_intermediate_size=40,
            n_routed_experts=8,
            n_group=2,
            topk_group=1,
            num_experts_per_tok=2,
            first_k_dense_replace=1,
            **LATENT,
        ),
        [
            Row("swiglu", 5, instances=1),
            _experts(d_hidden=40, instances=1),
            Row("swiglu", 5, d_hidden=40, instances=1),
        ],
    ),
    "granite_moe": (
        "GraniteMoeForCausalLM",
        "GraniteMoeConfig",
        dict(GROUPED, num_local_experts=8, num_experts_per_tok=2),
        [_experts()],
    ),
    "phimoe": (  # its router takes maxima, no topk: what of the rows are tokens is not in the trace
        "PhimoeForCausalLM",
        "PhimoeConfig",
        dict(GROUPED, num_local_experts=8),
        [_experts(top_k=None, tokens=None)],
    ),
    "gpt_oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        dict(HEADS, num_local_experts=8, num_experts_per_tok=2),
        [Row("swiglu_oai", 12, bias=True, experts=8, top_k=2)],
    ),
    "llama4": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        dict(HEADS, num_local_experts=8, interleave_moe_layer_step=1),
        [_experts(top_k=1), Row("swiglu", 5)],
    ),
}

IMAGES: dict[str, tuple[str, str, dict[str, Any], list[Row]]] = {
    "vit": (
        "ViTModel",
        "ViTConfig",
        dict(IMAGE, intermediate_size=104),
        [Row("gelu", 3, bias=True, tokens=34)],
    ),
    "beit": (
        "BeitModel",
        "BeitConfig",
        dict(IMAGE, intermediate_size=104),
        [Row("gelu", 3, bias=True, tokens=34)],
    ),
    "clip": (
        "CLIPVisionModel",
        "CLIPVisionConfig",
        dict(IMAGE, intermediate_size=104),
        [Row("quick_gelu", 5, bias=True, tokens=34)],
    ),
    "dinov2": ("Dinov2Model", "Dinov2Config", IMAGE, [Row("gelu", 3, bias=True, d_hidden=192, tokens=34)]),
    "dinov2_giant": (
        "Dinov2Model",
        "Dinov2Config",
        dict(IMAGE, use_swiglu_ffn=True),
        [Row("swiglu", 5, bias=True, d_hidden=128, tokens=34)],
    ),
    "siglip": (  # the pooling head is an MLP too
        "SiglipVisionModel",
        "SiglipVisionConfig",
        dict(IMAGE, intermediate_size=104),
        [Row("gelu", 3, bias=True, tokens=32), Row("gelu", 3, bias=True, tokens=2, instances=1)],
    ),
}


def make(name: str, **more: Any) -> tuple[nn.Module, dict[str, torch.Tensor], list[Row]]:
    """A model, its inputs, and the rows of a trace of one forward pass."""
    cls, config, values, rows = TEXT[name] if name in TEXT else IMAGES[name]
    torch.manual_seed(0)
    model = getattr(transformers, cls)(getattr(transformers, config)(**{**values, **more}))
    return model.eval(), {"input_ids": IDS} if name in TEXT else {"pixel_values": PIXELS}, rows
