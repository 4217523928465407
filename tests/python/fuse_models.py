"""Small models with random weights, built from transformers' configuration classes; nothing is downloaded."""

from __future__ import annotations

import logging
from typing import Callable, NamedTuple

import torch
import transformers
from torch import nn

logging.getLogger("transformers").setLevel(logging.ERROR)

IDS = torch.arange(1, 13).view(2, 6)
SIZES = dict(vocab_size=64, hidden_size=48, intermediate_size=104, num_hidden_layers=2, num_attention_heads=4)
GROUPED = dict(SIZES, num_key_value_heads=2)
TOKENS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)


class Case(NamedTuple):
    """A model, its inputs, and what fuse() must find in it."""

    model: nn.Module
    inputs: dict
    cls: str  # class of the modules that are swapped
    count: int
    form: str  # first part of their spec


def _case(name: str, config: object, inputs: dict, cls: str, count: int, form: str) -> Case:
    # Weights of order 1/sqrt(width): with the usual 0.02 activations hardly leave their linear part.
    config.initializer_range = 0.15
    model = getattr(transformers, name)(config)
    return Case(model.eval(), inputs, cls, count, form)


def _ids() -> dict:
    return {"input_ids": IDS}


def _bert_like(name: str, config: str, cls: str, **more) -> Callable[[], Case]:
    def make() -> Case:
        return _case(
            name, getattr(transformers, config)(**SIZES, **TOKENS, **more), _ids(), cls, 2, "gelu:48x104+bias"
        )

    return make


def _llama_like(name: str, cls: str, form: str = "swiglu:48x104", **more) -> Callable[[], Case]:
    def make() -> Case:
        config = getattr(transformers, name.replace("ForCausalLM", "Config"))(**GROUPED, **TOKENS, **more)
        return _case(name, config, _ids(), cls, 2, form)

    return make


def _gpt2() -> Case:
    config = transformers.GPT2Config(vocab_size=64, n_embd=48, n_layer=2, n_head=4, n_inner=104, **TOKENS)
    return _case("GPT2LMHeadModel", config, _ids(), "GPT2MLP", 2, "gelu_tanh:48x104+bias")


def _gptj() -> Case:
    config = transformers.GPTJConfig(
        vocab_size=64, n_embd=48, n_layer=2, n_head=4, n_inner=104, rotary_dim=4, **TOKENS
    )
    return _case("GPTJForCausalLM", config, _ids(), "GPTJMLP", 2, "gelu_tanh:48x104+bias")


def _opt(before: bool = True) -> Case:
    config = transformers.OPTConfig(
        vocab_size=64,
        hidden_size=48,
        ffn_dim=104,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=48,
        do_layer_norm_before=before,
        **TOKENS,
    )
    config.init_std = 0.15
    return _case("OPTForCausalLM", config, _ids(), "OPTDecoderLayer", 2, "relu:48x104+bias")


def _t5(form: str, cls: str, spec: str) -> Callable[[], Case]:
    def make() -> Case:
        config = transformers.T5Config(
            vocab_size=64,
            d_model=48,
            d_kv=12,
            d_ff=104,
            num_layers=2,
            num_heads=4,
            feed_forward_proj=form,
            decoder_start_token_id=0,
        )
        return _case(
            "T5ForConditionalGeneration",
            config,
            {**_ids(), "decoder_input_ids": IDS},
            cls,
            4,
            f"{spec}:48x104",
        )

    return make


def _whisper() -> Case:
    config = transformers.WhisperConfig(
        vocab_size=64,
        d_model=48,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=104,
        decoder_ffn_dim=104,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=10,
        decoder_start_token_id=1,
        **TOKENS,
    )
    features = torch.randn(2, 8, 20, generator=torch.Generator().manual_seed(0))
    inputs = {"input_features": features, "decoder_input_ids": IDS}
    config.init_std = 0.15
    return _case(
        "WhisperModel", config, inputs, "WhisperEncoderLayer WhisperDecoderLayer", 3, "gelu:48x104+bias"
    )


def _vision(name: str, config: str, cls: str, form: str, count: int = 2) -> Callable[[], Case]:
    def make() -> Case:
        sizes = dict(SIZES, image_size=8, patch_size=4)
        sizes.pop("vocab_size")
        pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return _case(name, getattr(transformers, config)(**sizes), {"pixel_values": pixels}, cls, count, form)

    return make


def _neox() -> Case:
    return _case(
        "GPTNeoXForCausalLM",
        transformers.GPTNeoXConfig(**SIZES, **TOKENS),
        _ids(),
        "GPTNeoXMLP",
        2,
        "gelu:48x104+bias",
    )


def _bloom() -> Case:
    config = transformers.BloomConfig(vocab_size=64, hidden_size=48, n_layer=2, n_head=4, **TOKENS)
    return _case("BloomForCausalLM", config, _ids(), "BloomMLP", 2, "gelu_tanh:48x192+bias")


def _falcon() -> Case:
    config = transformers.FalconConfig(
        vocab_size=64,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_hidden_size=104,
        **TOKENS,
    )
    return _case("FalconForCausalLM", config, _ids(), "FalconMLP", 2, "gelu:48x104")


def _distilbert() -> Case:
    config = transformers.DistilBertConfig(vocab_size=64, dim=48, hidden_dim=104, n_layers=2, n_heads=4)
    return _case("DistilBertModel", config, _ids(), "FFN", 2, "gelu:48x104+bias")


def _albert() -> Case:
    config = transformers.AlbertConfig(embedding_size=16, **SIZES, hidden_act="gelu", **TOKENS)
    return _case("AlbertModel", config, _ids(), "AlbertLayer", 1, "gelu:48x104+bias")


def _modernbert() -> Case:
    config = transformers.ModernBertConfig(**SIZES, **TOKENS, cls_token_id=1, sep_token_id=2)
    return _case("ModernBertModel", config, _ids(), "ModernBertMLP", 2, "geglu:48x104")


def _bart() -> Case:
    config = transformers.BartConfig(
        vocab_size=64,
        d_model=48,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=104,
        decoder_ffn_dim=104,
        max_position_embeddings=16,
        decoder_start_token_id=2,
        **TOKENS,
    )
    config.init_std = 0.15
    return _case("BartModel", config, _ids(), "BartEncoderLayer BartDecoderLayer", 2, "gelu:48x104+bias")


def _gemma3() -> Case:
    config = transformers.Gemma3TextConfig(**GROUPED, **TOKENS, head_dim=12)
    return _case("Gemma3ForCausalLM", config, _ids(), "Gemma3MLP", 2, "geglu_tanh:48x104")


CASES: dict[str, Callable[[], Case]] = {
    "bert": _bert_like("BertModel", "BertConfig", "BertLayer"),
    "roberta": _bert_like("RobertaModel", "RobertaConfig", "RobertaLayer"),
    "xlm-roberta": _bert_like("XLMRobertaModel", "XLMRobertaConfig", "XLMRobertaLayer"),
    "electra": _bert_like("ElectraModel", "ElectraConfig", "ElectraLayer", embedding_size=48),
    "mpnet": _bert_like("MPNetModel", "MPNetConfig", "MPNetLayer"),
    "deberta": _bert_like("DebertaV2Model", "DebertaV2Config", "DebertaV2Layer"),
    "distilbert": _distilbert,
    "albert": _albert,
    "modernbert": _modernbert,
    "gpt2": _gpt2,
    "gptj": _gptj,
    "gpt-neox": _neox,
    "bloom": _bloom,
    "falcon": _falcon,
    "llama": _llama_like("LlamaForCausalLM", "LlamaMLP"),
    "llama-bias": _llama_like("LlamaForCausalLM", "LlamaMLP", "swiglu:48x104+bias", mlp_bias=True),
    "mistral": _llama_like("MistralForCausalLM", "MistralMLP"),
    "qwen2": _llama_like("Qwen2ForCausalLM", "Qwen2MLP"),
    "qwen3": _llama_like("Qwen3ForCausalLM", "Qwen3MLP", head_dim=12),
    "smollm3": _llama_like("SmolLM3ForCausalLM", "SmolLM3MLP"),
    "granite": _llama_like("GraniteForCausalLM", "GraniteMLP"),
    "gemma": _llama_like("GemmaForCausalLM", "GemmaMLP", "geglu_tanh:48x104", head_dim=12),
    "gemma2": _llama_like("Gemma2ForCausalLM", "Gemma2MLP", "geglu_tanh:48x104", head_dim=12),
    "gemma3": _gemma3,
    "phi3": _llama_like("Phi3ForCausalLM", "Phi3MLP"),
    "phi": _llama_like("PhiForCausalLM", "PhiMLP", "gelu_tanh:48x104+bias"),
    "nemotron": _llama_like("NemotronForCausalLM", "NemotronMLP", "relu2:48x104"),
    "starcoder2": _llama_like("Starcoder2ForCausalLM", "Starcoder2MLP", "gelu_tanh:48x104+bias"),
    "opt": _opt,
    "opt-post-norm": lambda: _opt(before=False),
    "t5": _t5("relu", "T5DenseActDense", "relu"),
    "t5-gated": _t5("gated-gelu", "T5DenseGatedActDense", "geglu_tanh"),
    "vit": _vision("ViTModel", "ViTConfig", "ViTMLP", "gelu:48x104+bias"),
    "clip": _vision("CLIPVisionModel", "CLIPVisionConfig", "CLIPMLP", "quick_gelu:48x104+bias"),
    "siglip": _vision("SiglipVisionModel", "SiglipVisionConfig", "SiglipMLP", "gelu_tanh:48x104+bias", 3),
    "whisper": _whisper,
    "bart": _bart,
}


def make(name: str, seed: int = 0) -> Case:
    """The case `name`, with weights that depend on the seed alone; biases and norms are random too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        case = CASES[name]()
        with torch.no_grad():
            for parameter in case.model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return case


def output(model: nn.Module, inputs: dict) -> torch.Tensor:
    """The first tensor that the model returns."""
    with torch.no_grad():
        return model(**inputs)[0]
