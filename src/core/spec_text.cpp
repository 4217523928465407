// The text form of MlpSpec: one grammar, read and written here (see spec.h).

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "core/format.h"
#include "core/text.h"
#include "fusedmlp/spec.h"

namespace fusedmlp {
inline namespace v0 {
namespace {

struct Form {
  const char* name;
  Activation activation;
  bool gated;
};

constexpr Form kForms[] = {
    {"identity", Activation::identity, false},
    {"relu", Activation::relu, false},
    {"relu2", Activation::relu2, false},
    {"gelu", Activation::gelu, false},
    {"gelu_tanh", Activation::gelu_tanh, false},
    {"quick_gelu", Activation::quick_gelu, false},
    {"silu", Activation::silu, false},
    {"sigmoid", Activation::sigmoid, false},
    {"bilinear", Activation::identity, true},
    {"reglu", Activation::relu, true},
    {"relu2glu", Activation::relu2, true},
    {"geglu", Activation::gelu, true},
    {"geglu_tanh", Activation::gelu_tanh, true},
    {"quick_geglu", Activation::quick_gelu, true},
    {"swiglu", Activation::silu, true},
    {"glu", Activation::sigmoid, true},
    {"swiglu_oai", Activation::swiglu_oai, true},
};

// Reads left to right; every failure says where, what came and what is accepted there.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<MlpSpec> parse() {
    if (!form() || !widths() || !biases() || !options()) return error_;
    return spec_;
  }

 private:
  // The rest up to a character that can start something else.
  std::string_view token(std::string_view delimiters) const {
    const std::string_view rest = text_.substr(at_);
    return rest.substr(0, rest.find_first_of(delimiters));
  }

  bool fail(std::string_view got, std::string_view accepted) {
    const std::string came = at_ >= text_.size() ? "the end" : core::quoted(got.empty() ? text_.substr(at_, 1) : got);
    error_ = Status(
        StatusCode::invalid_argument, "spec",
        core::format("character {} of {}: got {}, accepted: {}", at_ + 1, core::quoted(text_), came, accepted));
    return false;
  }

  bool take(std::string_view literal) {
    if (!text_.substr(at_).starts_with(literal)) return false;
    at_ += literal.size();
    return true;
  }

  bool form() {
    const std::string_view name = token(":,+");
    std::string accepted;
    for (const Form& form : kForms) {
      if (name == form.name) {
        spec_.activation = form.activation;
        spec_.gated = form.gated;
        at_ += name.size();
        return take(":") || fail({}, "\":\" and the widths, as in geglu:768x3072");
      }
      accepted += accepted.empty() ? "" : ", ";
      accepted += form.name;
    }
    return fail(name, accepted);
  }

  bool width(std::int64_t& value) {
    const std::size_t digits = std::min(text_.find_first_not_of("0123456789", at_), text_.size()) - at_;
    const std::string accepted = core::format("a width from 1 to {}", kMaxWidth);
    if (digits == 0) return fail(token(":,+x-"), accepted);
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, begin + digits, value);
    if (error != std::errc() || value < 1 || value > kMaxWidth) return fail(text_.substr(at_, digits), accepted);
    at_ += digits;
    return true;
  }

  bool widths() {
    if (!width(spec_.d_in)) return false;
    if (!take("x")) return fail(token(",+"), "\"x\" and the hidden width, as in 768x3072");
    if (!width(spec_.d_hidden)) return false;
    spec_.d_out = spec_.d_in;
    return !take("->") || width(spec_.d_out);
  }

  bool biases() {
    const std::string accepted =
        spec_.gated ? "bias, bias_gate, bias_up or bias_down, each once" : "bias, bias_up or bias_down, each once";
    while (take("+")) {
      const std::string_view name = token(",+");
      const bool all = name == "bias";
      bool known = false;
      bool fresh = true;
      const auto set = [&](const char* field, bool exists, bool& flag) {
        if (!exists || (!all && name != field)) return;
        known = true;
        fresh = fresh && !flag;
        flag = true;
      };
      set("bias_gate", spec_.gated, spec_.bias_gate);
      set("bias_up", true, spec_.bias_up);
      set("bias_down", true, spec_.bias_down);
      if (!known || !fresh) return fail(name, accepted);
      at_ += name.size();
    }
    return true;
  }

  bool number(std::string_view text, float& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
  }

  bool options() {
    bool seen_dtype = false;
    bool seen_gate = false;
    bool seen_alpha = false;
    bool seen_limit = false;
    while (at_ < text_.size()) {
      if (!take(",")) return fail(token(","), "\"->D_OUT\", then \"+bias\", then \",\" and an option, or the end");
      const std::string_view option = token(",");
      const std::size_t equals = std::min(option.find('='), option.size());
      const std::string_view key = option.substr(0, equals);
      const std::string_view value = option.substr(std::min(equals + 1, option.size()));
      const auto once = [&](bool& seen) { return seen ? fail(option, "each option once") : (seen = true); };
      if (equals == option.size()) {
        const Result<DType> dtype = parse_dtype(option);
        if (!dtype.ok()) return fail(option, option_names());
        if (!once(seen_dtype)) return false;
        spec_.dtype = *dtype;
      } else if (key == "gate" && spec_.gated) {
        if (!once(seen_gate)) return false;
        if (!gate_order(value)) return fail(option, "gate=first, gate=last or gate=interleaved");
      } else if (key == "alpha" && spec_.activation == Activation::swiglu_oai) {
        if (!once(seen_alpha)) return false;
        if (!number(value, spec_.alpha)) return fail(option, "alpha= and a finite number");
      } else if (key == "limit" && spec_.activation == Activation::swiglu_oai) {
        if (!once(seen_limit)) return false;
        if (!number(value, spec_.limit) || !(spec_.limit > 0)) return fail(option, "limit= and a finite number > 0");
      } else {
        return fail(option, option_names());
      }
      at_ += option.size();
    }
    return true;
  }

  bool gate_order(std::string_view text) {
    for (const GateOrder order : {GateOrder::first, GateOrder::last, GateOrder::interleaved}) {
      if (text != to_string(order)) continue;
      spec_.gate_order = order;
      return true;
    }
    return false;
  }

  std::string option_names() const {
    std::string names = "fp32, bf16, fp16";
    if (spec_.gated) names += ", gate=first|last|interleaved";
    if (spec_.activation == Activation::swiglu_oai) names += ", alpha=A, limit=L";
    return names;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  MlpSpec spec_;
  Status error_;
};

}  // namespace

const char* form_name(Activation activation, bool gated) noexcept {
  for (const Form& form : kForms) {
    if (form.activation == activation && form.gated == gated) return form.name;
  }
  return to_string(activation);
}

Result<MlpSpec> parse_spec(std::string_view text) { return Parser(text).parse(); }

std::string to_string(const MlpSpec& spec) {
  const MlpSpec defaults;
  std::string text = core::format("{}:{}x{}", form_name(spec.activation, spec.gated), spec.d_in, spec.d_hidden);
  if (spec.d_out != spec.d_in) text += core::format("->{}", spec.d_out);
  if ((spec.bias_gate || !spec.gated) && spec.bias_up && spec.bias_down) {
    text += "+bias";
  } else {
    if (spec.bias_gate) text += "+bias_gate";
    if (spec.bias_up) text += "+bias_up";
    if (spec.bias_down) text += "+bias_down";
  }
  if (spec.dtype != defaults.dtype) text += core::format(",{}", to_string(spec.dtype));
  if (spec.gated && spec.gate_order != defaults.gate_order)
    text += core::format(",gate={}", to_string(spec.gate_order));
  if (spec.activation == Activation::swiglu_oai) {
    if (spec.alpha != defaults.alpha) text += core::format(",alpha={}", spec.alpha);
    if (spec.limit != defaults.limit) text += core::format(",limit={}", spec.limit);
  }
  return text;
}

}  // namespace v0
}  // namespace fusedmlp
